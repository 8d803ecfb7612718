"""The hook's side of the messages: whatever is not a whole answer of this version, in time, is no."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import flask
import pytest
from mlflow.exceptions import MlflowException

from mlflow_gate.files import Files, GuardedArtifacts
from mlflow_gate.gate import Answer, Denied, Gate, State
from mlflow_gate.locations import Concerned, Holder, Locations
from mlflow_gate.names import Kept
from mlflow_gate.own import Own
from mlflow_gate.sources import place, within
from mlflow_gate.streams import AskedAtItsEnd
from tests.conftest import wait_until

CHANGE = {"kind": "stage", "name": "m", "version": 2, "stage": "Production", "archive_existing": True}
STATE = {"stages": {"2": "Production"}, "aliases": {"champion": 2, "challenger": None}}


class Answers:
    """A gate that answers what it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes | Callable[[Any], None] = b"{}"
        self.asked: list[tuple[str, Any]] = []
        self.url = ""

    def say(self, document: object, status: int = 200) -> None:
        self.status, self.body = status, json.dumps(document).encode()


@pytest.fixture
def answers() -> Iterator[Answers]:
    with _running(Answers()) as found:
        yield found


@contextmanager
def _running(answers: Answers) -> Iterator[Answers]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answers.asked.append((self.path, json.loads(sent) if sent else None))
            body = answers.body
            self.send_response(answers.status)
            if answers.status == 302:
                self.send_header("Location", answers.url + "/elsewhere")
            self.send_header("Content-Length", str(len(body) if isinstance(body, bytes) else 1000))
            self.end_headers()
            if isinstance(body, bytes):
                self.wfile.write(body)
            else:
                body(self.wfile)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    answers.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()


def gate(answers: Answers, **more: Any) -> Gate:
    return Gate(url=answers.url, token="t", **{"seconds": 2.0, **more})


def ask(answers: Answers, **more: Any) -> Answer:
    return gate(answers, **more).ask(CHANGE, [], "default")


class TestAnAnswer:
    def test_that_says_yes_is_yes(self, answers: Answers) -> None:
        answers.say({"protocol": 1, "allowed": True, "valid_for": 5.0})
        found = ask(answers)
        assert (found.prescribed, found.intent) == (None, None)
        found.require_time()
        path, question = answers.asked[0]
        assert path == "/api/v1/admissions"
        assert (question["protocol"], question["user"], question["intent"]) == (1, None, None)

    def test_that_prescribes_is_read_whole(self, answers: Answers) -> None:
        prescribed = {"before": STATE, "after": STATE}
        answers.say({"protocol": 1, "allowed": True, "valid_for": 5, "intent": "abc", "prescribed": prescribed})
        found = ask(answers)
        state = State(stages={2: "Production"}, aliases={"champion": 2, "challenger": None})
        assert (found.prescribed, found.intent) == ((state, state), "abc")

    def test_that_says_no_is_no_with_its_reason(self, answers: Answers) -> None:
        answers.say({"protocol": 1, "allowed": False, "reason": "Not approved.", "where": "http://x", "checks": []})
        with pytest.raises(Denied, match=r"^Not approved\. See http://x$") as error:
            ask(answers)
        assert error.value.get_http_status_code() == 403

    @pytest.mark.parametrize(
        "document",
        [
            [],
            {},
            "yes",
            {"allowed": True},
            {"protocol": 2, "allowed": True},
            {"protocol": "1", "allowed": True},
            {"protocol": 1},
            {"protocol": 1, "allowed": 1},
            {"protocol": 1, "allowed": "true"},
            {"protocol": 1, "allowed": None},
            {"protocol": 1, "allowed": False},
            {"protocol": 1, "allowed": True, "valid_for": "long"},
            {"protocol": 1, "allowed": True, "valid_for": 5, "intent": "abc"},
            {"protocol": 1, "allowed": True, "valid_for": 5, "prescribed": {}},
            {"protocol": 1, "allowed": True, "valid_for": 5, "prescribed": {"before": STATE, "after": {"stages": 1}}},
        ],
    )
    def test_that_makes_no_sense_is_no(self, answers: Answers, document: object) -> None:
        answers.say(document)
        with pytest.raises(Denied, match="gave no answer"):
            ask(answers)

    @pytest.mark.parametrize("status", [201, 302, 400, 401, 404, 422, 503])
    def test_of_another_status_is_no_whatever_it_says(self, answers: Answers, status: int) -> None:
        answers.say({"protocol": 1, "allowed": True, "valid_for": 5}, status)
        with pytest.raises(Denied, match=f"gave no answer but status {status}, so nothing was changed"):
            ask(answers)
        assert len(answers.asked) == 1

    def test_that_broke_on_the_way_is_no_and_says_so(self, answers: Answers) -> None:
        answers.say({"protocol": 1, "allowed": True, "valid_for": 5}, 500)
        with pytest.raises(Denied) as error:
            ask(answers)
        assert str(error.value).endswith(
            "Signoff broke while answering (status 500). Nothing was changed, and its log says why. "
            f"It can be asked for at {answers.url}"
        )
        assert len(answers.asked) == 1

    def test_that_is_a_page_is_no(self, answers: Answers) -> None:
        answers.body = b"<html>allowed</html>"
        with pytest.raises(Denied, match="gave no answer"):
            ask(answers)

    def test_that_drips_is_no(self, answers: Answers) -> None:
        def drip(out: Any) -> None:
            for _ in range(100):
                out.write(b" ")
                out.flush()
                time.sleep(0.05)

        answers.body = drip
        begun = time.monotonic()
        with pytest.raises(Denied, match="gave no answer"):
            ask(answers, seconds=0.5)
        assert time.monotonic() - begun < 4

    def test_without_time_left_is_no(self, answers: Answers) -> None:
        answers.say({"protocol": 1, "allowed": True})
        with pytest.raises(Denied, match="too long"):
            ask(answers).require_time()

    @pytest.mark.parametrize(("url", "token"), [("", "t"), ("http://127.0.0.1:9", ""), ("http://127.0.0.1:9", "t")])
    def test_from_nowhere_is_no(self, url: str, token: str) -> None:
        with pytest.raises(Denied, match="can be asked for at"):
            Gate(url=url, token=token, seconds=1).ask(CHANGE, [], "default")


class TestReason:
    @pytest.fixture
    def asked(self, answers: Answers) -> Callable[..., dict[str, Any]]:
        def asked(kind: str = "stage", **headers: str) -> dict[str, Any]:
            """What Signoff is asked, when a call to MLflow comes with these headers."""
            answers.say({"protocol": 1, "allowed": True, "valid_for": 5.0})
            with flask.Flask(__name__).test_request_context("/", headers=headers):
                gate(answers).ask({**CHANGE, "kind": kind}, [], "default")
            return answers.asked[-1][1]

        return asked

    @pytest.mark.parametrize(
        ("sent", "told"),
        [
            ("Better on test data v2", "Better on test data v2"),
            ("5% fewer errors", "5% fewer errors"),
            (quote("Größer als 0,92 → besser"), "Größer als 0,92 → besser"),
            ("größer".encode().decode("latin-1"), "größer"),  # as curl sends it
        ],
    )
    def test_is_sent_along_with_a_move(self, asked: Callable[..., dict[str, Any]], sent: str, told: str) -> None:
        assert asked(**{"X-Signoff-Reason": sent})["reason"] == told

    def test_is_left_out_where_there_is_none_or_nothing_is_moved(self, asked: Callable[..., dict[str, Any]]) -> None:
        for question in (asked(), asked(**{"X-Signoff-Reason": " "}), asked("tag_set", **{"X-Signoff-Reason": "x"})):
            assert "reason" not in question

    @pytest.mark.parametrize(("sent", "why"), [("gr\xf6\xdfer", "is not UTF-8"), ("x" * 10_001, "10001 characters")])
    def test_that_cannot_be_told_is_an_error_of_the_caller(
        self, answers: Answers, asked: Callable[..., dict[str, Any]], sent: str, why: str
    ) -> None:
        with pytest.raises(MlflowException, match=why) as refusal:
            asked(**{"X-Signoff-Reason": sent})
        assert refusal.value.get_http_status_code() == 400
        assert not answers.asked


class TestTheIntentOfACall:
    def test_that_is_too_long_to_be_one_is_an_error_of_the_caller_with_length_and_limit(self, answers: Answers) -> None:
        with (
            flask.Flask(__name__).test_request_context("/", headers={"X-Signoff-Intent": "a" * 20_000}),
            pytest.raises(MlflowException, match=r"has 20000 characters; .* at most 128") as refusal,
        ):
            gate(answers).ask(CHANGE, [], "default")
        assert refusal.value.get_http_status_code() == 400
        assert not answers.asked


class TestNames:
    def test_are_compared_without_letter_case_and_remembered(self, answers: Answers) -> None:
        answers.say({"protocol": 1, "aliases": ["champion"], "model_tags": []})
        asking = gate(answers)
        assert asking.protects("Champion")
        assert not asking.protects("shadow")
        assert len(answers.asked) == 1

    def test_that_were_never_read_protect_every_alias(self) -> None:
        assert Gate(url="http://127.0.0.1:9", token="t", seconds=1).protects("shadow")

    def test_that_cannot_be_read_again_stay(self, answers: Answers) -> None:
        answers.say({"protocol": 1, "aliases": ["champion"], "model_tags": []})
        asking = gate(answers)
        asking.protects("champion")
        asking._read_at -= 60
        answers.say({}, 503)
        assert not asking.protects("shadow")
        assert asking.protects("champion")

    def test_of_tags_that_policies_are_chosen_by_are_those_alone_and_any_until_they_are_known(
        self, answers: Answers
    ) -> None:
        answers.say({"protocol": 1, "aliases": ["champion"], "model_tags": ["risk"]})
        asking = gate(answers)
        assert [asking.chooses(key) for key in ("risk", "owner", "Risk")] == [True, False, False]
        assert len(answers.asked) == 1
        assert Gate(url="http://127.0.0.1:9", token="t", seconds=1).chooses("owner")


class TestExperimentsOfSignoffsOwn:
    """Every metric asks for them, so nobody waits for Signoff's answer."""

    NAMES: ClassVar = {"protocol": 1, "aliases": [], "model_tags": [], "experiments": ["7"]}

    def test_are_those_it_told_last_also_on_disk_for_a_server_that_starts_without_it(
        self, answers: Answers, tmp_path: Path
    ) -> None:
        kept = Kept(tmp_path / "names.json", answers.url)
        answers.say(self.NAMES)
        asking = gate(answers, kept=kept)
        asking.protects("champion")
        assert asking.experiments() == {"7"}
        answers.say({}, 503)
        assert gate(answers, kept=kept).experiments() == {"7"}

    def test_are_read_again_beside_what_asks(self, answers: Answers) -> None:
        answers.say(self.NAMES)
        asking = gate(answers)
        asking.experiments()
        wait_until(lambda: asking.experiments() == {"7"}, "the names")
        assert len(answers.asked) == 1

    def test_are_none_until_they_are_known(self) -> None:
        assert Gate(url="http://127.0.0.1:9", token="t", seconds=1).experiments() == frozenset()


class TestAWriteOfSignoffsOwn:
    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], bool]:
        """Whether a call with this header is taken for one."""
        asking = Gate(url="", token="the token", seconds=1)

        def taken(header: str | None) -> bool:
            monkeypatch.setattr("mlflow_gate.caller.intent", lambda: header)
            return asking.ours()

        return taken

    def proof(self, about: str, token: str = "the token") -> str:
        code = hmac.new(token.encode(), f"signoff intent {about}".encode(), hashlib.sha256)
        return f"{about}.{code.hexdigest()}"

    def test_carries_a_proof_of_this_moment(self, sent: Callable[[str | None], bool]) -> None:
        now = int(time.time())
        assert sent(self.proof(f"record-{now}"))
        assert sent(self.proof(f"record-{now - 500}"))
        assert not sent(self.proof(f"record-{now - 700}"))
        assert not sent(self.proof(f"record-{now + 700}"))

    def test_is_none_of_any_other_call(self, sent: Callable[[str | None], bool]) -> None:
        now = int(time.time())
        genuine = self.proof(f"record-{now}")
        for header in (
            None, "", ".", f"record-{now}", f"record-{now}.", f"record-{now}.{'0' * 64}", genuine[:-1],
            genuine.replace(f"record-{now}", f"record-{now + 1}"), self.proof(f"record-{now}", "guessed"),
            self.proof("0" * 32), self.proof("record-x"), self.proof(f"record-{'9' * 400}"), f"{genuine}\xff",
        ):  # fmt: skip
            assert not sent(header), header

    def test_cannot_be_proven_to_a_server_without_a_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mlflow_gate.caller.intent", lambda: self.proof(f"record-{int(time.time())}", ""))
        assert not Gate(url="", token="", seconds=1).ours()


class TestNamesKeptOnDisk:
    """A server that starts while Signoff is away asks about the names that it was told last, and no others."""

    NAMES: ClassVar = {"protocol": 1, "aliases": ["champion"], "model_tags": ["risk"]}

    @pytest.fixture
    def path(self, tmp_path: Path, answers: Answers) -> Path:
        """Where an earlier process of the server kept them; Signoff is away since."""
        found = tmp_path / "state" / "names.json"
        answers.say(self.NAMES)
        assert gate(answers, kept=Kept(found, answers.url)).protects("champion")
        answers.say({}, 503)
        return found

    def started(self, answers: Answers, path: Path) -> Gate:
        return gate(answers, kept=Kept(path, answers.url))

    def test_are_those_of_a_server_that_starts_without_signoff(self, answers: Answers, path: Path) -> None:
        asking = self.started(answers, path)
        assert [asking.protects(alias) for alias in ("Champion", "shadow")] == [True, False]
        assert [asking.chooses(key) for key in ("risk", "owner")] == [True, False]

    def test_are_readable_by_nobody_else_and_nothing_else_is_left_there(self, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert list(path.parent.iterdir()) == [path]

    def test_give_way_to_what_signoff_says_later(self, answers: Answers, path: Path) -> None:
        asking = self.started(answers, path)
        assert not asking.protects("best")
        answers.say({"protocol": 1, "aliases": ["best"], "model_tags": []})
        assert asking._read_at
        asking._read_at -= 60
        assert [asking.protects(alias) for alias in ("best", "champion")] == [True, False]
        answers.say({}, 503)
        assert [self.started(answers, path).protects(alias) for alias in ("best", "champion")] == [True, False]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff",
            b'{"gate": "URL", "aliases": ["champion"]}',
            b'{"gate": "URL", "aliases": "champion", "model_tags": []}',
            b'{"gate": "URL", "aliases": [1], "model_tags": []}',
            b'{"gate": "URL", "aliases": [], "model_tags": null}',
            b'{"gate": "http://another.example", "aliases": [], "model_tags": []}',
            b'{"aliases": [], "model_tags": []}',
        ],
    )
    def test_that_are_no_such_list_of_this_gate_protect_everything(
        self, answers: Answers, path: Path, content: bytes
    ) -> None:
        path.write_bytes(content.replace(b"URL", answers.url.encode()))
        asking = self.started(answers, path)
        assert asking.protects("shadow")
        assert asking.chooses("owner")

    @pytest.mark.parametrize("mode", [0o620, 0o602])
    def test_that_others_may_write_protect_everything(self, answers: Answers, path: Path, mode: int) -> None:
        path.chmod(mode)
        assert self.started(answers, path).protects("shadow")

    def test_of_another_account_protect_everything(
        self, answers: Answers, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        assert self.started(answers, path).protects("shadow")

    def test_that_were_half_written_are_the_earlier_ones(
        self, answers: Answers, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: int) -> None:
            raise OSError("No space left on device")

        answers.say({"protocol": 1, "aliases": ["best"], "model_tags": []})
        monkeypatch.setattr(os, "fsync", full)
        asking = self.started(answers, path)
        assert asking.protects("best"), "what cannot be kept is known all the same"
        answers.say({}, 503)
        assert asking._read_at
        asking._read_at -= 60
        assert asking.protects("best")
        assert self.started(answers, path).protects("champion")
        assert list(path.parent.iterdir()) == [path]

    def test_that_did_not_change_are_not_written_again(self, answers: Answers, path: Path) -> None:
        written = path.stat().st_ino
        answers.say(self.NAMES)
        assert self.started(answers, path).protects("champion")
        assert path.stat().st_ino == written

    def test_lie_where_the_setting_says_else_in_a_file_for_each_gate(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        places = [
            Gate.from_environment({"SIGNOFF_GATE_URL": url, "SIGNOFF_GATE_NAMES": named})._kept
            for url, named in (("http://a", ""), ("http://b", ""), ("http://a", "/srv/names.json"))
        ]
        paths = [kept.path for kept in places if kept]
        assert [path.parent for path in paths] == [tmp_path / "signoff-gate", tmp_path / "signoff-gate", Path("/srv")]
        assert len(set(paths)) == 3


class TestTurns:
    def test_beyond_those_that_fit_are_refused_at_once(self, answers: Answers) -> None:
        asking = gate(answers, in_flight=1)
        with asking.turn(CHANGE):
            waiting = threading.Thread(target=lambda: asking.turn(CHANGE).__enter__())
            waiting.start()
            time.sleep(0.2)
            begun = time.monotonic()
            with pytest.raises(Denied, match="Too many"), asking.turn(CHANGE):
                pass
            assert time.monotonic() - begun < 1
            with asking.turn({"kind": "tag_set"}):  # what Signoff itself writes does not wait for moves
                pass
        waiting.join()

    def test_of_a_training_that_logs_to_what_is_recorded_take_no_place_of_the_others(self, answers: Answers) -> None:
        asking = gate(answers, in_flight=1)
        with asking.turn({"kind": "evidence_written", "path": "The metric x"}):
            begun = time.monotonic()
            with asking.turn(CHANGE), asking.turn({"kind": "tag_set"}):
                assert time.monotonic() - begun < 1


class Bucket:
    """A store that gives out addresses to upload to."""

    def create_presigned_upload_url(self, path: str, expiration: int = 900) -> str:
        return f"https://bucket/{path}?for={expiration}"


class GuardedBucket(GuardedArtifacts, Bucket):
    root = "s3://bucket/1"


class TestAnAddressToUploadTo:
    """It could be used when what is allowed now is not any more."""

    @pytest.fixture
    def bucket(self, monkeypatch: pytest.MonkeyPatch) -> GuardedBucket:
        held = [Holder("default", "m", 3)]

        def concerned(_self: object, _store: object, where: str, deleted: bool) -> Concerned:
            assert not deleted
            return Concerned(
                files=held if "/1/model/" in where else [], evidence=held if "/1/of_the_run/" in where else []
            )

        monkeypatch.setattr(Locations, "concerned", concerned)
        monkeypatch.setattr(Own, "require_place", lambda *_, **__: None)
        found = GuardedBucket()
        found.files = Files(Gate(url="", token=""), lambda: None, "s3://bucket", lambda: None)
        return found

    def test_is_given_out_where_no_version_has_its_files(self, bucket: GuardedBucket) -> None:
        assert bucket.create_presigned_upload_url("other/MLmodel", 60) == "https://bucket/other/MLmodel?for=60"

    @pytest.mark.parametrize("path", ["model/MLmodel", "of_the_run/MLmodel"])
    def test_is_not_where_one_has_or_its_run_whoever_has_a_record_of_it(self, bucket: GuardedBucket, path: str) -> None:
        with pytest.raises(Denied, match="where m/v3 has its files or its run"):
            bucket.create_presigned_upload_url(path)


class TestAStream:
    def test_ends_only_if_it_still_may(self) -> None:
        def no() -> None:
            raise Denied("Not any more.")

        stream = AskedAtItsEnd(io.BytesIO(b"bytes"), no)
        assert stream.read(3) == b"byt"
        assert stream.read(3) == b"es"
        for size in (3, -1):
            with pytest.raises(Denied):
                stream.read(size)


class TestPlaces:
    @pytest.mark.parametrize(
        "uri",
        [
            "mlflow-artifacts:/1/m-1/artifacts",
            "mlflow-artifacts:///1/m-1/artifacts/",
            "mlflow-artifacts://host:5000/1//m-1/./artifacts",
            "mlflow-artifacts:/1/m%2D1/artifacts",
            "mlflow-artifacts:/1/m%252D1/artifacts",
            "http://host:5000/api/2.0/mlflow-artifacts/artifacts/1/m-1/artifacts",
            "https://other/x/ajax-api/2.0/mlflow-artifacts/artifacts/1/m-1/artifacts",
            "/srv/artifacts/1/m-1/artifacts",
            "file:///srv/artifacts/1/m-1/artifacts",
        ],
    )
    def test_are_the_same_however_they_are_written(self, uri: str) -> None:
        assert place(uri, "/srv/artifacts") == "/srv/artifacts/1/m-1/artifacts"

    def test_in_a_bucket_are_below_it(self) -> None:
        assert place("mlflow-artifacts:/1/m", "s3://bucket/a") == "s3://bucket/a/1/m"
        assert place("s3://bucket/a//1/m/", "s3://bucket/a") == "s3://bucket/a/1/m"

    def test_cannot_be_left_upwards(self) -> None:
        assert within("/srv/artifacts", "1/../2") == "/srv/artifacts/2"
        assert within("/srv/artifacts", "../../etc") == "/srv/artifacts/etc"
