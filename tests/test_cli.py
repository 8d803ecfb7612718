"""The command line on the machine itself: what it prints, and the exit codes of the contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import main
from services.settings import PROJECT
from services.signoff import Signoff
from tests.conftest import free_port
from tests.test_checkpoints import rewrite, sign, tamper
from tests.test_ledger import add, entry

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(signoff: Signoff, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the home of `signoff`; gives exit code, stdout and stderr."""
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


class TestLedger:
    def test_what_is_exported_verifies_with_the_published_key(self, run: Run, signoff: Signoff, tmp_path: Path) -> None:
        file, home = tmp_path / "ledger.jsonl", signoff.settings.home
        code, out, _ = run("ledger", "export", "--output", file)
        assert code == 0
        assert out.startswith(f"Wrote 8 events to {file}, signed with key ")
        code, out, _ = run("ledger", "verify", file, "--public-key", home / "checkpoint-key.pub", "--json")
        assert code == 0
        assert json.loads(out)["events"] == 8
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

    def test_without_mlflow_the_witness_is_missing_and_that_is_said(self, run: Run) -> None:
        code, _, err = run("ledger", "verify")
        assert code == 3
        assert "MLflow did not give a usable answer" in err

    def test_a_checkpoint_is_one_line(self, run: Run) -> None:
        code, out, _ = run("ledger", "checkpoint")
        assert code == 0
        assert json.loads(out)["checkpoint"]["seq"] == 8
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
