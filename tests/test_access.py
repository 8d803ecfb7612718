"""What is said at the start of an MLflow server that does not let Signoff in, and of such a database."""

from __future__ import annotations

import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from commands import remote
from services import certificates
from services.database import Database
from services.errors import RegistryUnavailable
from services.mlflow.registry import MlflowRegistry
from services.settings import Settings
from stack import access, preflight
from stack.preflight import CannotStart
from tests import postgres
from tests.conftest import free_port
from tests.fakes import FakeRegistry

MODELS = b'{"registered_models": []}'
LOGIN = b64encode(b"signoff:right").decode()


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN", "SERVER_CERT_PATH", "INSECURE_TLS"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    for name in certificates.REQUESTS:
        monkeypatch.delenv(name, raising=False)


@contextmanager
def server(
    status: int = 200, body: bytes = MODELS, *, login: bool = False, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Something that answers everything with ``status``, or asks for a log-in; yields its URL."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = not login or self.headers["Authorization"] == f"Basic {LOGIN}"
            self.send_response(status if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    if tls:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """With a certificate that signed itself, in ``cert.pem``."""
    made = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, "-days", "1", "-subj", "/CN=mlflow", *made], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


def refusal(uri: str) -> str:
    found = access.refusal(uri)
    assert found
    return found


class TestMlflow:
    def test_that_lists_its_models_lets_us_in(self) -> None:
        for body in (MODELS, b"{}", b'{"registered_models": [{"name": "m"}], "next_page_token": "x"}'):
            with server(body=body) as uri:
                assert access.refusal(uri) is None

    def test_that_asks_for_a_log_in_wants_the_two_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with server(login=True) as uri:
            assert refusal(uri).startswith(f"MLflow at {uri} asks for a log-in; set MLFLOW_TRACKING_USERNAME and")
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "signoff")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
            assert "does not accept the name and password of Signoff's account (401)" in refusal(uri)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right")
            assert access.refusal(uri) is None

    def test_a_wrong_password_in_its_address_is_not_repeated(self) -> None:
        with server(login=True) as uri:
            found = refusal(uri.replace("://", "://signoff:tell-nobody@"))
        assert found.startswith(f"MLflow at {uri} does not accept the name and password")

    def test_that_does_not_show_its_registry_is_told_apart(self) -> None:
        with server(403) as uri:
            assert "does not let Signoff's account read the registry (403)" in refusal(uri)

    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (200, b"<html>Welcome</html>", "no list of models"),
            (200, b'{"status": "ok"}', "no list of models"),
            (200, b"[]", "no list of models"),
            (404, b"", "status 404"),
            (502, b"", "status 502"),
        ],
    )
    def test_what_is_no_mlflow_server_is_named(self, status: int, body: bytes, said: str) -> None:
        with server(status, body) as uri:
            assert refusal(uri) == (
                f"What answers at {uri} gives {said} where MLflow lists its models; is MLFLOW_TRACKING_URI right?"
            )

    def test_that_is_away_is_named(self) -> None:
        uri = f"http://127.0.0.1:{free_port()}"
        assert refusal(uri).startswith(f"MLflow does not answer at {uri}; start it")

    def test_that_never_answers_is_waited_for_a_bounded_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "SECONDS", 0.1)
        with server() as uri, monkeypatch.context() as patched:
            held = threading.Event()
            patched.setattr(BaseHTTPRequestHandler, "handle", lambda _: held.wait(20))
            assert "within 0.1 seconds" in refusal(uri)
            held.set()

    def test_a_certificate_that_nobody_vouches_for_is_named(
        self, tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with server(tls=tls) as uri:
            found = refusal(uri)
            assert found.startswith(f"The connection to {uri} is not secure (certificate verify failed: self-signed")
            assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in found
            monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "cert.pem"))
            assert access.refusal(uri) is None

    @pytest.mark.parametrize("name", certificates.MLFLOW)
    @pytest.mark.parametrize(
        ("file", "why"),
        [("missing.pem", "cannot be read: No such file or directory"), ("key.pem", "holds no certificate")],
    )
    def test_a_file_of_certificates_that_is_no_use_is_named_with_its_variable(
        self, tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, why: str
    ) -> None:
        monkeypatch.setenv(name, str(tmp_path / file))
        told = f"{name} names {tmp_path / file}, which {why}."
        with server(tls=tls) as uri:
            assert refusal(uri) == told
            with pytest.raises(RegistryUnavailable) as away:
                MlflowRegistry(uri).ping()
            assert str(away.value) == told
            if name in certificates.REQUESTS:
                monkeypatch.setenv("SIGNOFF_TOKEN", "signoff_x")
                monkeypatch.setenv("SIGNOFF_URL", uri)
                with pytest.raises(remote.Unanswered) as unanswered:
                    remote.get("/models")
                assert (str(unanswered.value), unanswered.value.code) == (told, remote.UNREACHABLE)
        with server() as uri:
            assert access.refusal(uri) is None

    def test_https_where_there_is_none_is_named(self) -> None:
        with server() as uri:
            assert "is not secure (wrong version number)" in refusal(uri.replace("http:", "https:"))

    def test_the_start_ends_with_the_sentence(self, tmp_path: Path) -> None:
        with server(login=True) as uri:
            environ = {"SIGNOFF_HOME": str(tmp_path), "SIGNOFF_SECRET_KEY": "s" * 32, "MLFLOW_TRACKING_URI": uri}
            with pytest.raises(CannotStart, match="asks for a log-in"):
                preflight.mlflow(Settings.read(environ))


class TestDatabase:
    @pytest.fixture
    def stranger(self, postgres_server: postgres.Server) -> Iterator[str]:
        """The URL of an empty database for a role that may do nothing there."""
        postgres_server.execute("CREATE ROLE stranger LOGIN")
        postgres_server.execute("CREATE DATABASE strange")
        yield str(sa.make_url(postgres_server.url("strange")).set(username="stranger").render_as_string())
        postgres_server.drop(postgres_server.url("strange"))
        postgres_server.execute("DROP ROLE stranger")

    @pytest.mark.parametrize(
        ("url", "named"),
        [
            ("postgresql://signoff:tell-nobody@db.example:5432/record", "PostgreSQL record on db.example:5432"),
            ("postgresql+psycopg://signoff@db.example/record?password=tell-nobody", "PostgreSQL record on db.example"),
            ("postgresql:///record?host=/run/postgresql", "PostgreSQL record on /run/postgresql"),
            ("postgresql://signoff@", "PostgreSQL signoff on this machine"),
            ("sqlite:////srv/signoff.db", "SQLite /srv/signoff.db"),
            ("sqlite:///signoff.db", f"SQLite {Path.cwd() / 'signoff.db'}"),
            ("sqlite://", "SQLite in memory"),
        ],
    )
    def test_is_named_without_its_password(self, url: str, named: str) -> None:
        assert Database(url).place == named

    def test_is_named_at_the_start_and_whether_a_record_is_in_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file, url = tmp_path / "signoff.db", f"sqlite:///{tmp_path / 'signoff.db'}"
        monkeypatch.delenv("SIGNOFF_DATABASE_URL", raising=False)
        beside = {"SIGNOFF_HOME": str(tmp_path), "SIGNOFF_SECRET_KEY": "s" * 32, "MLFLOW_TRACKING_URI": "http://m"}
        registry = FakeRegistry()
        monkeypatch.setattr("services.mlflow.registry.MlflowRegistry", lambda _: registry)
        registry.open_witness("another record")
        with pytest.raises(CannotStart, match="an empty one would begin"):
            preflight.database(Settings.read(beside))
        registry = FakeRegistry()
        assert preflight.database(Settings.read(beside)) == (
            f"The record is in SQLite {file}, as SIGNOFF_DATABASE_URL is not set. A new record begins here."
        )
        monkeypatch.setenv("SIGNOFF_DATABASE_URL", url)
        given = Settings.read({**beside, "SIGNOFF_DATABASE_URL": url})
        assert preflight.database(given) == f"The record is in SQLite {file}. It holds 3 events."

    def refusal(self, home: Path, url: str) -> str:
        environ = {"SIGNOFF_HOME": str(home), "SIGNOFF_SECRET_KEY": "s" * 32, "SIGNOFF_DATABASE_URL": url}
        with pytest.raises(CannotStart) as refused:
            preflight.database(Settings.read(environ))
        return str(refused.value)

    def test_in_which_we_may_make_no_tables_is_named(self, tmp_path: Path, stranger: str) -> None:
        assert "permission denied for schema public" in self.refusal(tmp_path, stranger)

    def test_that_does_not_exist_or_knows_no_such_role_is_named(self, tmp_path: Path, stranger: str) -> None:
        url = sa.make_url(stranger)
        assert 'database "nowhere" does not exist' in self.refusal(
            tmp_path, url.set(database="nowhere").render_as_string()
        )
        found = self.refusal(tmp_path, url.set(username="nobody", password="tell-nobody").render_as_string(False))
        assert 'role "nobody" does not exist' in found
        assert "tell-nobody" not in found
