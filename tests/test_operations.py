"""`docs/operations.md`, followed: its own commands, from an empty PostgreSQL to a promotion through nginx."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from services.accounts import people
from services.database import Database
from services.domain import Source
from services.record import ledger
from services.record.ledger import Filter, Kind
from services.settings import PROJECT, Settings
from stack.hook import python_path
from tests import postgres
from tests.conftest import free_port, http_ok
from tests.debian import found_or_installed

DOCUMENT = (PROJECT / "docs" / "operations.md").read_text()
BLOCKS = re.findall(r"^```sh ?(.*)\n([\s\S]*?)^```$", DOCUMENT, re.MULTILINE)
"""What stands behind ``sh``, and the commands. Nothing: run in their order. ``stopped``: run once no dashboard runs.

``start NAME…``: the units that systemd starts there, run as they are written. ``variables``, ``one machine`` and
``install`` are not run.
"""
VARIABLES, OF_ONE_MACHINE = (
    set(re.findall(r"^(\w+)=", text, re.MULTILINE)) for kind, text in BLOCKS if kind in {"variables", "one machine"}
)
ACCOUNT = pwd.getpwuid(os.geteuid()).pw_name
PATIENCE = 240
"""Seconds for what takes ten on a machine with nothing else to do."""
pytestmark = pytest.mark.timeout(900)
MAIN = """daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/errors.log; events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  include {folder}/system/nginx/conf.d/*.conf;
}}"""
"""What Debian's own main configuration comes to, in a folder of the test's."""


@dataclass
class Site:
    """The set-up as far as it has come."""

    folder: Path
    values: dict[str, str]
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    """What its files of keys and passwords held, by their names."""

    def run(self, commands: str) -> str:
        """One block of the document, in a shell of its own that ends with the first error; returns what it printed."""
        given = "\n".join(f"{name}={shlex.quote(value)}" for name, value in self.values.items())
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{given}\nexec 9>>{self.trace}; BASH_XTRACEFD=9; set -x\n{commands}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def units(self) -> Path:
        """The folder of systemd's units."""
        return self.folder / "system" / "systemd" / "system"

    @property
    def trace(self) -> Path:
        """Every command that bash ran, as it was after expansion."""
        return self.folder / "trace"

    def start(self, name: str, command: list[str], *, folder: Path | None = None, **settings: str) -> None:
        """Something that stays in the foreground, until `stop`."""
        with (self.folder / f"{name}.log").open("w") as output:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=folder or self.folder,
                env={**self.environment, **settings},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def unit(self, name: str) -> tuple[list[str], Path, dict[str, str]]:
        """What systemd would run for the unit ``name``: the command, its folder, and its settings."""
        template, at, instance = name.partition("@")
        written = (self.units / f"{template}{at}.service").read_text().replace("%i", instance)
        lines = dict(line.split("=", 1) for line in written.splitlines() if "=" in line)
        assert (lines["User"], lines["UMask"]) == (ACCOUNT, "0077")
        settings = shlex.split(Path(lines["EnvironmentFile"]).read_text())
        return (
            shlex.split(lines["ExecStart"]),
            Path(lines["WorkingDirectory"]),
            dict(setting.split("=", 1) for setting in settings),
        )

    def serve(self, name: str) -> None:
        """A unit, until `stop`."""
        command, folder, settings = self.unit(name)
        self.start(name, command, folder=folder, **settings)

    def stop(self, *names: str) -> None:
        """End some of them, or all, at the same time."""
        ending = [self.processes.pop(name) for name in names or list(self.processes)]
        for started in ending:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
        for started in ending:
            try:
                started.wait(timeout=60)  # what it started has groups of its own, and is ended by it
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait(timeout=5)


@pytest.fixture(scope="module")
def nginx() -> str:
    found = found_or_installed(lambda: shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"), "nginx")
    if found is None:
        pytest.skip("nginx is not installed (Debian's package nginx), so docs/operations.md cannot be followed.")
    for tool in ("curl", "openssl"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed (Debian's package {tool}), so docs/operations.md cannot be followed.")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, nginx: str) -> Iterator[Site]:
    """Empty machines: PostgreSQL and nginx run, and know nothing of Signoff."""
    folder, port, public, mlflow = tmp_path_factory.mktemp("site"), free_port(), free_port(), free_port()
    for kept_by_debian in ("systemd/system", "nginx/conf.d", "nginx/snippets", "logrotate.d"):
        (folder / "system" / kept_by_debian).mkdir(parents=True)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    by_name = f"{nginx} -p {folder} -c {folder / 'nginx.conf'}"
    with postgres.running(port=port) as server:
        server.execute("DROP DATABASE signoff")
        values = {
            "REPOSITORY": "nowhere",
            "SIGNOFF": str(PROJECT),
            "CLI": f"{sys.executable} {PROJECT / 'cli.py'}",
            "DASHBOARD": sys.executable,
            "MLFLOW": sys.executable,
            "SIGNOFF_ACCOUNT": ACCOUNT,
            "MLFLOW_ACCOUNT": ACCOUNT,
            "ETC": str(folder / "etc"),
            "VAR": str(folder / "var"),
            "BACKUPS": str(folder / "backups"),
            "KEYS_COPY": str(folder / "keys"),
            "SYSTEM": str(folder / "system"),
            "DATABASE": f"127.0.0.1:{port}",
            "DATABASE_OPTIONS": "?sslmode=prefer&application_name=signoff",
            "AS_POSTGRES": f"env PGHOST=127.0.0.1 PGPORT={port} PGUSER={postgres.ACCOUNT}",
            "MLFLOW_DRIVER": "postgresql+psycopg",
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(free_port()),
            "DASHBOARD_PORT": str(free_port()),
            "DASHBOARD_1": "127.0.0.1",
            "DASHBOARD_2": "127.0.0.2",
            "PROXY": "127.0.0.1",
            "NGINX": by_name,
            "NGINX_RELOAD": f"{by_name} -s reload",
            "SIGNOFF_NAME": "localhost",
            "MLFLOW_NAME": "localhost",
            "SIGNOFF_PUBLIC_PORT": str(public),
            "MLFLOW_PUBLIC_PORT": str(mlflow),
            "PUBLIC_URL": f"https://localhost:{public}",
            "MLFLOW_URL": f"https://localhost:{mlflow}",
            "TLS": str(folder / "tls"),
            "AUTHORITY": str(folder / "tls" / "fullchain.pem"),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNOFF", "MLFLOW"))}
        environment = {
            **kept,
            "PATH": f"{server.binaries}:{kept['PATH']}",
            "PYTHONPATH": python_path(folder / "hook"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        found = Site(folder=folder, values=values, environment=environment)
        try:
            found.start("nginx", by_name.split())
            yield found
        finally:
            found.stop()


@pytest.fixture(scope="module")
def followed(site: Site) -> Site:
    """Everything done that the document says, in its order."""
    for kind, commands in BLOCKS:
        if kind == "":
            site.done.append(site.run(commands))
        for unit in kind.split()[1:] if kind.startswith("start ") else ():
            assert f"systemctl enable --now {unit}" in commands
            site.serve(unit)
        held = {file.name: file.read_text().strip() for file in site.folder.glob("etc/*") if not file.suffix}
        site.secrets.update({name: secret for name, secret in held.items() if secret})
    return site


def test_it_names_every_variable_at_its_top(nginx: str, site: Site) -> None:
    assert set(site.values) == VARIABLES
    assert OF_ONE_MACHINE < VARIABLES


def test_it_ends_with_a_promotion_through_nginx(followed: Site) -> None:
    with (followed.folder / "etc" / "dashboard-1.env").open() as file:
        settings = dict(line.rstrip("\n").split("=", 1) for line in file)
    trusting = ssl.create_default_context(cafile=str(followed.folder / "tls" / "fullchain.pem"))
    as_signoff = (settings["MLFLOW_TRACKING_USERNAME"], settings["MLFLOW_TRACKING_PASSWORD"])
    with httpx.Client(verify=trusting, auth=as_signoff, timeout=30) as client:
        version = client.get(
            f"{followed.values['MLFLOW_URL']}/api/2.0/mlflow/model-versions/get?name=churn&version=1"
        ).json()["model_version"]
        tags = {tag["key"]: tag["value"] for tag in version["tags"]}
        assert (version["current_stage"], version["aliases"]) == ("Production", ["champion"])
        assert (tags["approved_by"], tags["promoted_by"]) == ("remy", "mina")
        assert tags["signoff.registered_by"] == "sofia"
        moved = {"name": "churn", "version": "1", "stage": "Archived", "archive_existing_versions": False}
        url = f"{followed.values['MLFLOW_URL']}/api/2.0/mlflow/model-versions/transition-stage"
        assert client.post(url, json=moved).status_code == 403, "past the gate nobody moves it, MLflow's admin neither"


def test_it_has_two_dashboards_that_know_the_same_people(followed: Site) -> None:
    """With one session, each asked itself and both by way of the proxy; a WebSocket gets through that as well."""
    assert not list(followed.folder.glob("etc/password-of-*")), "handed over"
    password = followed.secrets["password-of-ana"]
    public, port = followed.values["PUBLIC_URL"], followed.values["DASHBOARD_PORT"]
    trusting = ssl.create_default_context(cafile=str(followed.folder / "tls" / "fullchain.pem"))
    with httpx.Client(verify=trusting, timeout=30) as browser:
        assert "Nobody can log in yet" not in browser.get(f"{public}/login").text
        form = {"username": "ana", "password": password}
        answer = browser.post(f"{public}/session/login", data=form, headers={"Origin": public})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookies = {cookie.name: cookie.value or "" for cookie in browser.cookies.jar}
        assert browser.get(public).status_code == 200
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    for address in ("127.0.0.1", "127.0.0.2"):
        page = httpx.get(f"http://{address}:{port}/", headers={"Cookie": cookie}, timeout=30)
        assert page.status_code == 200, address
    from websockets.sync.client import connect

    stream = f"{public.replace('https', 'wss')}/_stcore/stream"
    given = {"Cookie": cookie}
    with connect(stream, ssl=trusting, origin=public, subprotocols=["streamlit"], additional_headers=given) as socket:  # type: ignore[arg-type, list-item]
        assert socket.subprotocol == "streamlit"


def test_its_record_says_who_made_the_first_admin_and_knows_no_demo_account(followed: Site) -> None:
    _, _, settings = followed.unit("signoff@1")
    database = Database.of(Settings.read(settings))
    assert [account.username for account in people.listed(database)] == ["ana", "mina", "remy", "sofia"]
    with database.reading() as connection:
        *_, first = ledger.stream(connection, Filter(kinds=(Kind.ACCOUNT_ADDED,)))
    database.engine.dispose()
    assert (first.get("account"), first.acted.source) == ("ana", Source.CLI)
    assert first.acted.name.endswith(" on this machine")
    assert "Make the first admin" in (followed.folder / "signoff@1.log").read_text()


def test_its_tokens_for_the_first_promotion_are_revoked(followed: Site) -> None:
    printed = "".join(followed.done)
    for name in ("sofia", "remy", "mina"):
        assert f"Token first-promotion of {name} is revoked." in printed


def test_one_dashboard_is_enough(followed: Site) -> None:
    followed.stop("signoff@1")
    assert not http_ok(f"http://127.0.0.1:{followed.values['DASHBOARD_PORT']}/healthz")
    trusting = ssl.create_default_context(cafile=str(followed.folder / "tls" / "fullchain.pem"))
    assert httpx.get(f"{followed.values['PUBLIC_URL']}/readyz", verify=trusting, timeout=60).status_code == 200


def test_while_no_dashboard_runs_its_backup_is_restored_and_its_keys_are_replaced(followed: Site) -> None:
    """Then the settings are written anew, and the record verifies with them, as its timer verifies it every day."""
    followed.stop("signoff@2")
    (backup,) = (text for _, text in BLOCKS if "pg_dump" in text)
    (settings,) = (text for _, text in BLOCKS if "/dashboard-$number.env <<EOF" in text)
    followed.run(backup)
    printed = [followed.run(text) for kind, text in BLOCKS if kind == "stopped"]
    assert printed[0].startswith("Verified")
    assert any("signs from event" in words for words in printed)
    followed.run(settings)
    command, folder, given = followed.unit("signoff-verify")
    verified = subprocess.run(command, cwd=folder, env={**followed.environment, **given}, timeout=PATIENCE, check=False)
    assert verified.returncode == 0


def test_its_units_are_units_of_systemd(followed: Site) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed, so nothing can verify the units.")
    units = [followed.units / name for name in ("mlflow.service", "signoff@.service", "signoff-verify.timer")]
    found = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60, check=False
    )
    assert not [line for line in found.stderr.splitlines() if "signoff" in line or "mlflow" in line]


def test_its_commands_give_no_program_a_secret_as_an_argument(followed: Site) -> None:
    """Every account of a machine can read the arguments of every program; what bash does by itself has none."""
    traced = re.findall(r"^\++ (.*)", followed.trace.read_text(), re.MULTILINE)
    assert any(command.startswith("curl ") for command in traced)
    assert len(followed.secrets) >= 11
    for name, secret in followed.secrets.items():
        told = [command for command in traced if secret in command and not re.match(r"\w+=|printf |export ", command)]
        assert not told, name
