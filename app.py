"""The dashboard's door. Started with ``python app.py``: ``streamlit run app.py`` does not read SIGNOFF_PORT."""

import gc
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from starlette.middleware import Middleware

from components import session
from services.caretaker import Caretaker
from services.errors import SignoffError
from services.messaging.courier import Courier
from services.settings import Settings
from services.signoff import Signoff
from services.steps.pulse import Pulse
from services.validation.worker import Validator
from web.document import document
from web.gate import SessionGate
from web.headers import SecurityHeaders, content_security_policy, script_hashes
from web.passwords import BcryptPasswords
from web.paths import Paths
from web.routes import routes

try:
    signoff = session.use(Signoff.open(Settings.read(), passwords=BcryptPasswords()))
except (SignoffError, OSError) as error:
    sys.exit(f"Signoff cannot start: {error}")


caretaker = Caretaker(signoff)  # before the snapshot, see there
background = (Pulse(signoff.database), signoff.snapshot, caretaker, Courier(signoff), Validator(signoff))
workers = [worker for one in background for worker in one.workers]


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    for one in background:
        one.start()
    gc.collect()
    gc.freeze()  # what was imported lives as long as the process: no later collection need look at it
    yield
    for one in reversed(background):
        one.stop()
    signoff.close()


policy = content_security_policy(script_hashes(document()))
guards = [Middleware(SecurityHeaders, policy=policy), Middleware(SessionGate, signoff=signoff), Middleware(Paths)]
app = st.App("components/shell.py", routes=routes(signoff, workers), middleware=guards, lifespan=lifespan)

if __name__ == "__main__":
    os.environ["FORWARDED_ALLOW_IPS"] = ",".join(signoff.settings.trusted_proxies)  # read by uvicorn, else loopback
    app.run(config={"server.port": signoff.settings.port, "server.address": signoff.settings.host})
