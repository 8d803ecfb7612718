"""The command line on the machine itself: what it prints, and the exit codes of the contract."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import main
from services import caretaker
from services.accounts import people, sessions, tokens
from services.domain import Role, Source
from services.errors import Unauthenticated
from services.mlflow.registry import MlflowRegistry
from services.record import checkpoints
from services.settings import CHECKPOINT_FILE, PROJECT
from services.signoff import Signoff
from tests.conftest import SECRET, free_port
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_checkpoints import rewrite, sign, tamper
from tests.test_ledger import add, entry
from web.passwords import BcryptPasswords

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command on the home and the registry of `signoff`; gives exit code, stdout and stderr."""
    monkeypatch.setattr("services.mlflow.registry.MlflowRegistry", lambda _: registry)
    for name in ("MLFLOW_TRACKING_URI", "SIGNOFF_DATABASE_URL", "SIGNOFF_POLICIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SIGNOFF_HOME", str(signoff.settings.home))
    monkeypatch.setenv("SIGNOFF_DATABASE_URL", signoff.settings.database_url)
    monkeypatch.setenv("SIGNOFF_SECRET_KEY", signoff.settings.secret_key.decode())
    monkeypatch.setenv("SIGNOFF_MLFLOW_PORT", str(free_port()))
    add(signoff, *[entry(comment=str(number)) for number in range(1, 6)])

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return (int(left.value.code or 0), *capsys.readouterr())

    return command


def signed(signoff: Signoff) -> object:
    """The newest checkpoint that this database holds."""
    with signoff.database.reading() as connection:
        return checkpoints.newest(connection)


def key_of(signoff: Signoff) -> Path:
    """The file of the embedded stack's own checkpoint key, which `rotate-key` makes anew."""
    file = signoff.settings.home / CHECKPOINT_FILE
    file.write_text(base64.b64encode(signoff.settings.checkpoint_seed).decode())
    return file


class TestLedger:
    def test_what_is_exported_verifies_with_the_published_key(self, run: Run, signoff: Signoff, tmp_path: Path) -> None:
        file, home = tmp_path / "ledger.jsonl", signoff.settings.home
        code, out, _ = run("ledger", "export", "--output", file)
        assert code == 0
        assert out.startswith(f"Wrote 9 events to {file}, signed with key ")
        code, out, _ = run("ledger", "verify", file, "--public-key", home / "checkpoint-key.pub", "--json")
        assert code == 0
        assert json.loads(out)["events"] == 9
        assert run("ledger", "verify", file)[0] == 0
        assert sorted(path.name for path in tmp_path.glob("*.part")) == []

    def test_a_file_that_was_changed_or_cut_does_not_verify(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "ledger.jsonl"
        run("ledger", "export", "--output", file, "--json")
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:-1]))
        code, _, err = run("ledger", "verify", file)
        assert (code, err) == (1, "Does not verify. The file does not end in its checkpoint: it was cut off.\n")
        file.write_bytes(b"".join([*lines[:4], *lines[5:]]))
        code, out, _ = run("ledger", "verify", file, "--json")
        assert (code, json.loads(out)["seq"]) == (1, 5)

    def test_the_live_ledger_verifies_until_somebody_touches_it(self, run: Run, signoff: Signoff) -> None:
        assert run("ledger", "verify", "--offline")[0] == 0
        sign(signoff)
        rewrite(signoff, after=4, comments=["a", "b", "c", "d", "e"])
        code, _, err = run("ledger", "verify", "--offline")
        assert code == 1
        assert "not the one that was signed" in err

    @pytest.mark.parametrize("command", ["verify", "checkpoint", "export --output no-such-file", "rotate-key"])
    def test_without_mlflow_the_witness_is_missing_and_that_is_said(
        self, run: Run, signoff: Signoff, monkeypatch: pytest.MonkeyPatch, command: str
    ) -> None:
        monkeypatch.setattr("services.mlflow.registry.MlflowRegistry", MlflowRegistry)
        monkeypatch.chdir(signoff.settings.home)
        key_of(signoff)
        before = kinds(signoff)
        code, _, err = run("ledger", *command.split())
        assert code == 3
        assert "MLflow did not give a usable answer" in err
        assert (kinds(signoff), signed(signoff)) == (before, None)

    @pytest.mark.parametrize("command", ["checkpoint", "export", "rotate-key"])
    def test_an_end_that_was_cut_off_is_not_signed(
        self, run: Run, signoff: Signoff, tmp_path: Path, command: str
    ) -> None:
        key = key_of(signoff)
        caretaker.tidy(signoff)
        rewrite(signoff, after=6, comments=[])
        tamper(signoff, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        file, kept, before = tmp_path / "ledger.jsonl", key.read_text(), kinds(signoff)
        code, out, err = run("ledger", command, *(["--output", file] if command == "export" else []))
        assert (code, out) == (1, "")
        assert err.startswith("The record was tampered with. MLflow witnesses event #9")
        assert "signoff ledger restored --reason" in err
        assert not file.exists()
        assert (kinds(signoff), signed(signoff), key.read_text()) == (before, None, kept)

    def test_a_restored_backup_is_stated_once_and_named_by_every_verification(
        self, run: Run, signoff: Signoff, tmp_path: Path
    ) -> None:
        caretaker.tidy(signoff)
        assert run("ledger", "restored", "--reason", "None.")[0] == 2
        rewrite(signoff, after=6, comments=[])
        tamper(signoff, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        code, _, err = run("ledger", "verify")
        assert code == 1
        assert "MLflow witnesses event #9" in err
        assert "signoff ledger restored --reason" in err
        assert run("ledger", "restored", "--reason", " ")[0] == 2
        code, out, _ = run("ledger", "restored", "--reason", "Disk failure.", "--json")
        assert code == 0
        stated = json.loads(out)
        assert (stated["epoch"], stated["event"]) == (2, 7)
        assert "MLflow witnessed events up to #9 (hash" in stated["words"]
        assert "this ledger is known to agree up to #0" in stated["words"]
        code, out, _ = run("ledger", "verify")
        assert (code, out.splitlines()[1]) == (0, stated["words"])
        file = tmp_path / "ledger.jsonl"
        run("ledger", "export", "--output", file)
        code, out, _ = run("ledger", "verify", file, "--json")
        assert (code, json.loads(out)["epochs"], json.loads(out)["epoch"]) == (0, [stated["words"]], 2)

    def test_a_checkpoint_is_one_line(self, run: Run) -> None:
        code, out, _ = run("ledger", "checkpoint")
        assert code == 0
        assert json.loads(out)["checkpoint"]["seq"] == 9
        assert run("ledger", "checkpoint")[1] == out

    def test_a_broken_ledger_is_neither_signed_nor_exported(self, run: Run, signoff: Signoff, tmp_path: Path) -> None:
        tamper(signoff, "DELETE FROM events WHERE seq = 5")
        assert run("ledger", "checkpoint")[0] == 1
        assert run("ledger", "export", "--output", tmp_path / "x.jsonl")[0] == 1
        assert not (tmp_path / "x.jsonl").exists()

    def test_a_home_without_a_ledger_is_one_sentence_and_stays_empty(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SIGNOFF_HOME", str(tmp_path / "nowhere"))
        monkeypatch.delenv("SIGNOFF_DATABASE_URL")
        code, _, err = run("ledger", "verify")
        assert code == 3
        assert "There is no ledger in" in err
        assert not (tmp_path / "nowhere").exists()

    @pytest.mark.parametrize(
        "arguments",
        [["ledger", "export"], ["ledger", "frob"], ["ledger", "verify", "no such file", "--public-key", "none"]],
    )
    def test_wrong_usage_is_2(self, run: Run, arguments: list[str]) -> None:
        assert run(*arguments)[0] == 2


class TestPolicy:
    def test_the_shipped_policies_have_no_mistake(self, run: Run) -> None:
        assert run("policy", "lint", PROJECT / "policies")[0] == 0

    def test_every_mistake_is_named_with_file_and_line(self, run: Run, tmp_path: Path) -> None:
        folder = tmp_path / "policies"
        folder.mkdir()
        (folder / "a.yaml").write_text("name: a\nbogus: 1\n")
        (folder / "b.yaml").write_text("name: [\n")
        code, out, _ = run("policy", "lint", folder, "--json")
        first, second = json.loads(out)["mistakes"]
        assert code == 1
        assert first.startswith("a.yaml:")
        assert second.startswith("b.yaml:2")

    def test_a_folder_without_policies_is_wrong_usage(self, run: Run, tmp_path: Path) -> None:
        assert run("policy", "lint", tmp_path / "none")[0] == 2

    def test_the_text_in_force_is_shown(self, run: Run) -> None:
        text = (PROJECT / "policies" / "default.yaml").read_text()
        assert run("policy", "show", "default")[1].strip() == text.strip()
        code, _, err = run("policy", "show", "nothing")
        assert code == 2
        assert "No policy named nothing is in force" in err


class TestToken:
    def test_is_shown_once_and_opens_the_rest_door(self, run: Run, signoff: Signoff) -> None:
        code, out, _ = run("token", "create", "ci", "--user", "reviewer", "--json")
        told = json.loads(out)
        assert (code, told["user"], told["state"]) == (0, "reviewer", "live")
        found = tokens.bearer(signoff.database, told["token"], signoff.settings.secret_key, Source.REST)
        assert found.actor.username == "reviewer"
        code, out, _ = run("token", "list", "--json")
        assert [token["id"] for token in json.loads(out)["tokens"]] == [told["id"]]
        assert told["token"] not in out
        assert record(signoff)[-1].kind.value == "token:created"
        assert (record(signoff)[-1].actor, record(signoff)[-1].body["source"]) == ("signoff", "cli")

    def test_without_json_it_is_the_token_alone(self, run: Run) -> None:
        out = run("token", "create", "ci", "--user", "reviewer")[1]
        assert out.startswith("signoff_")
        assert len(out.split()) == 1

    def test_takes_models_actions_and_days(self, run: Run) -> None:
        arguments = ("--models", "fraud_*", "--actions", "view,approve", "--actions", "reject", "--days", "7")
        told = json.loads(run("token", "create", "ci", "--user", "reviewer", *arguments, "--json")[1])
        assert (told["models"], told["actions"]) == (["fraud_*"], ["approve", "reject", "view"])
        lines = run("token", "list", "--user", "reviewer")[1].splitlines()
        assert lines[0].split() == ["ID", "USER", "NAME", "STATE", "LAST", "USED", "LIMITED", "TO"]
        assert lines[1].endswith("approve, reject, view, fraud_*")

    def test_of_an_earlier_secret_key_is_not_live_and_can_be_revoked(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run("token", "create", "ci", "--user", "reviewer")
        monkeypatch.setenv("SIGNOFF_EARLIER_SECRET_KEYS", SECRET)
        monkeypatch.setenv("SIGNOFF_SECRET_KEY", "n" * 32)
        assert "ended by the new secret key" in run("token", "list")[1]
        (told,) = json.loads(run("token", "list", "--json")[1])["tokens"]
        assert told["state"] == "ended by the new secret key"
        assert json.loads(run("token", "revoke", "ci", "--json")[1])["state"] == "revoked"
        assert json.loads(run("token", "create", "ci", "--user", "reviewer", "--json")[1])["state"] == "live"

    def test_is_revoked_by_name_or_id(self, run: Run, signoff: Signoff) -> None:
        told = json.loads(run("token", "create", "ci", "--user", "reviewer", "--json")[1])
        assert run("token", "revoke", "ci", "--user", "viewer")[0] == 2
        assert run("token", "revoke", "ci")[0] == 0
        assert json.loads(run("token", "revoke", told["id"], "--json")[1])["state"] == "revoked"
        assert [event.kind.value for event in record(signoff)][-2:] == ["token:created", "token:revoked"]

    @pytest.mark.parametrize(
        "wrong",
        [["--user", "nobody"], [], ["--user", "reviewer", "--days", "0"], ["--user", "reviewer", "--actions", "fly"]],
    )
    def test_wrong_usage_is_2(self, run: Run, signoff: Signoff, wrong: list[str]) -> None:
        before = record(signoff)
        assert run("token", "create", "ci", *wrong)[0] == 2
        assert record(signoff) == before

    @pytest.mark.parametrize("empty", ["", " ", ",", "view,"])
    @pytest.mark.parametrize("option", ["--models", "--actions"])
    def test_an_empty_limit_is_a_mistake_and_no_token_without_limits(
        self, run: Run, signoff: Signoff, option: str, empty: str
    ) -> None:
        """A shell variable that is not set."""
        before = record(signoff)
        code, out, err = run("token", "create", "ci", "--user", "reviewer", option, empty)
        told = f"One of the token's {option.removeprefix('--')} is empty; leave them out for all, or name each.\n"
        assert (code, out, err) == (2, "", told)
        assert record(signoff) == before

    def test_in_the_home_of_a_stack_the_stacks_own_key_is_meant(
        self, run: Run, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever has set MLFLOW_TRACKING_URI to use the embedded server has set no secret key."""
        (signoff.settings.home / "secret-key").write_text(signoff.settings.secret_key.decode())
        for name in ("SIGNOFF_SECRET_KEY", "SIGNOFF_DATABASE_URL"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        told = json.loads(run("token", "create", "ci", "--user", "reviewer", "--json")[1])
        assert tokens.bearer(signoff.database, told["token"], signoff.settings.secret_key, Source.REST)


class TestDatabase:
    def test_that_no_setting_names_is_named_beside_the_answer(
        self, run: Run, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert run("user", "list")[2] == ""
        file = signoff.settings.home / "signoff.db"
        told = f"SIGNOFF_DATABASE_URL is not set, so this is about the record in SQLite {file}.\n"
        monkeypatch.delenv("SIGNOFF_DATABASE_URL")
        for command in (["user", "list", "--json"], ["token", "list", "--json"], ["ledger", "verify", "--json"]):
            code, out, err = run(*command)
            assert (code, err) == (0, told)
            assert json.loads(out)
        (signoff.settings.home / "mlflow").mkdir()
        assert run("user", "list", "--json")[2] == "", "the embedded server's own home needs no such setting"
        monkeypatch.setenv("SIGNOFF_HOME", str(file.parent / "nowhere"))
        assert "or its database with SIGNOFF_DATABASE_URL" in run("user", "list")[2]


class TestUser:
    def add(self, run: Run, monkeypatch: pytest.MonkeyPatch, password: str, *more: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\nnot this\n"))
        return run("user", "add", "nora", "--name", "Nora Bye", *more)

    def recorded(self, signoff: Signoff) -> list[str]:
        return [kind for kind in kinds(signoff) if kind.startswith("account:")]

    def test_is_added_with_a_password_from_standard_input(
        self, run: Run, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code, _, _ = self.add(run, monkeypatch, "correct horse stapled", "--role", "reviewer", "--role", "auditor")
        assert code == 0
        assert people.acting(signoff.database, "nora", Source.CLI).roles == {Role.REVIEWER, Role.AUDITOR}
        key = signoff.settings.secret_key
        assert sessions.log_in(signoff.database, "nora", "correct horse stapled", BcryptPasswords(), key)
        code, out, _ = run("user", "list", "--json")
        added = next(user for user in json.loads(out)["users"] if user["username"] == "nora")
        assert (added["roles"], added["disabled"]) == (["auditor", "reviewer"], False)
        assert "$2b$" not in out

    def test_is_not_added_without_one_nor_twice(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.add(run, monkeypatch, "")[0] == 2
        assert self.add(run, monkeypatch, "x" * 73)[0] == 2
        assert self.add(run, monkeypatch, "correct horse stapled")[0] == 0
        code, _, err = self.add(run, monkeypatch, "correct horse stapled")
        assert (code, err) == (2, "There is already an account 'nora'.\n")

    @pytest.mark.parametrize(
        ("password", "why"),
        [
            ("1", "A password must have at least 12 characters; this one has 1."),
            ("password1234", "This password is easily guessed. This is a very common password."),
            ("nora bye nora", "This password is easily guessed."),
        ],
    )
    def test_is_not_added_with_a_password_that_is_easily_guessed(
        self, run: Run, signoff: Signoff, monkeypatch: pytest.MonkeyPatch, password: str, why: str
    ) -> None:
        code, _, err = self.add(run, monkeypatch, password)
        assert (code, err[: len(why)]) == (2, why)
        assert "nora" not in {account.username for account in people.listed(signoff.database)}
        assert self.recorded(signoff) == []

    def test_gets_a_new_password_and_sessions_end(
        self, run: Run, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.add(run, monkeypatch, "correct horse stapled")
        key, passwords = signoff.settings.secret_key, BcryptPasswords()
        token = sessions.log_in(signoff.database, "nora", "correct horse stapled", passwords, key)
        monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
        assert run("user", "set-password", "nora")[0] == 2
        assert sessions.session_user(signoff.database, sessions.session_key(token, key))
        monkeypatch.setattr("sys.stdin", io.StringIO("another stapled battery\n"))
        assert run("user", "set-password", "nora")[0] == 0
        assert sessions.session_user(signoff.database, sessions.session_key(token, key)) is None
        with pytest.raises(sessions.WrongCredentials):
            sessions.log_in(signoff.database, "nora", "correct horse stapled", passwords, key)
        assert sessions.log_in(signoff.database, "nora", "another stapled battery", passwords, key)
        assert self.recorded(signoff) == ["account:added", "account:changed"]
        assert record(signoff)[-1].comment == "nora was given a new password; all sessions ended."

    def test_of_a_service_or_of_nobody_gets_no_password(self, run: Run, signoff: Signoff) -> None:
        assert run("user", "add", "robot", "--name", "R", "--service")[0] == 0
        for nobody in ("robot", "nobody"):
            assert run("user", "set-password", nobody)[::2] == (2, f"There is no person's account '{nobody}'.\n")
        assert self.recorded(signoff) == ["account:added"]

    def test_takes_no_password_as_an_argument(self, run: Run) -> None:
        assert run("user", "add", "nora", "--name", "N", "--password", "x")[0] == 2

    def test_gets_other_roles_and_is_disabled_at_once(self, run: Run, signoff: Signoff) -> None:
        secret = json.loads(run("token", "create", "ci", "--user", "viewer", "--json")[1])["token"]
        assert run("user", "set-roles", "viewer", "reviewer", "auditor")[0] == 0
        assert people.acting(signoff.database, "viewer", Source.CLI).roles == {Role.REVIEWER, Role.AUDITOR}
        assert run("user", "disable", "viewer")[0] == 0
        with pytest.raises(Unauthenticated):
            tokens.bearer(signoff.database, secret, signoff.settings.secret_key, Source.REST)
        assert "disabled" in next(line for line in run("user", "list")[1].splitlines() if line.startswith("viewer"))
        for wrong in (("set-roles", "nobody", "viewer"), ("set-roles", "viewer", "emperor"), ("disable", "nobody")):
            assert run("user", *wrong)[0] == 2
