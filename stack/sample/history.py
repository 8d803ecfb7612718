"""Play the story through Signoff's own verbs, as the demo accounts: `python -m stack.sample.history`.

May be killed at any moment and started again: what the ledger already shows is not done twice.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from services import caretaker
from services.domain import Source
from services.errors import SignoffError
from services.gate import GateRefused
from services.record import ledger
from services.record.ledger import Filter, Kind
from services.settings import Settings
from services.signoff import Signoff
from services.steps import slots
from services.steps.pulse import Pulse
from services.tables import slots as slots_table
from services.verbs import releases, reviews
from stack import screen
from stack.answers import address, answers
from stack.sample.story import STORY, Deed, Step
from web.health import SAMPLE_COMPLETE

TELLERS = 2
"""Models whose stories are told side by side; more only wait for the one MLflow worker."""

_REVIEW: dict[Deed, Callable[..., object]] = {
    Deed.SUBMIT: reviews.submit,
    Deed.APPROVE: reviews.approve,
    Deed.ASK_FOR_CHANGES: reviews.request_changes,
    Deed.REJECT: reviews.reject,
}


def play(signoff: Signoff, story: Iterable[Step] = STORY) -> Iterator[Step]:
    """Do what the ledger does not show yet; yields each step that was done."""
    for step in story:
        if not _recorded(signoff, step):
            _do(signoff, step)
            yield step


def _recorded(signoff: Signoff, step: Step) -> bool:
    wanted = Filter(model=step.ref.name, version=step.ref.version, actor=step.by, kinds=(Kind(step.deed.value),))
    with signoff.database.reading() as connection:
        return ledger.count(connection, wanted) > 0


def _do(signoff: Signoff, step: Step) -> None:
    if step.deed in _REVIEW:
        _REVIEW[step.deed](signoff, step.ref, by=step.by, comment=step.words, source=Source.SYSTEM)
    elif step.deed is Deed.PROMOTE:
        releases.promote(signoff, step.ref, by=step.by, reason=step.words, source=Source.SYSTEM)
    else:
        try:
            releases.promote(signoff, step.ref, by=step.by, reason=step.words, source=Source.SYSTEM)
        except GateRefused:
            return
        raise SignoffError(f"{step.ref} was to be refused, and was promoted: do the policies let everything pass?")


def _let_interrupted_changes_end(signoff: Signoff) -> None:
    """An earlier start may have been killed in the middle of a verb: its slot must run out first."""
    waiting = (
        sa.select(sa.func.count()).select_from(slots_table).where(slots_table.c.holder.is_not(None), ~slots.over())
    )
    told = False
    while True:
        caretaker.tidy(signoff)
        with signoff.database.reading() as connection:
            if not connection.execute(waiting).scalar_one():
                return
        if not told:
            screen.progress("waiting up to two minutes for a change that was interrupted to run out")
            told = True
        time.sleep(2)


def main() -> None:
    """Wait for the dashboard, play, and mark the sample registry complete."""
    logging.basicConfig(level=logging.WARNING)
    settings = Settings.read()
    try:
        signoff = Signoff.open(settings)
        while not answers(f"{address(settings)}/healthz"):
            time.sleep(0.3)
        Pulse(signoff.database).start()
        _let_interrupted_changes_end(signoff)
        with ThreadPoolExecutor(TELLERS) as pool:
            list(pool.map(lambda name: _tell(signoff, name), dict.fromkeys(step.ref.name for step in STORY)))
    except Exception as error:  # whatever it is: without a word the terminal would wait for ever
        logging.exception("history")
        screen.failure(f"The history of the sample registry cannot be played: {error}")
        sys.exit(1)
    (settings.home / SAMPLE_COMPLETE).touch()


def _tell(signoff: Signoff, name: str) -> None:
    for step in play(signoff, (step for step in STORY if step.ref.name == name)):
        screen.progress(f"{step.by}: {step.deed.value.replace(':', ' ')} · {step.ref}")


if __name__ == "__main__":
    main()
