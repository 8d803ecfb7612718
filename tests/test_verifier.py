"""The verifier reads an export with one crypto package and finds every kind of tampering, knowing the key only."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.errors import LedgerBroken
from services.record import checkpoints
from services.record.export import export
from services.record.ledger import Entry, Kind
from services.settings import PROJECT
from services.signoff import Signoff
from tests.conftest import settings_in
from tests.test_checkpoints import tamper
from tests.test_ledger import ACTOR, REF, add, entry
from verifier.__main__ import main
from verifier.canonical import canonical
from verifier.keys import Key
from verifier.verify import GENESIS, Tampered, UnusableKey, key_id, keys_in, verify

PEOPLE = False

Lines = list[bytes]


def changed(line: bytes, **values: object) -> bytes:
    """The event with other content under its old hash."""
    event = json.loads(line)
    event["body"] |= values
    return canonical(event) + b"\n"


def recomputed(lines: Lines) -> Lines:
    """The whole chain computed again from the first line on; the checkpoint stays."""

    previous, found = GENESIS, []
    for seq, line in enumerate(lines[:-1], start=1):
        body = {**json.loads(line)["body"], "seq": seq, "previous": previous}
        previous = hashlib.sha256(canonical(body)).hexdigest()
        found.append(canonical({"body": body, "hash": previous}) + b"\n")
    return [*found, lines[-1]]


@pytest.fixture
def lines(signoff: Signoff) -> Lines:
    """An export of eight events and their checkpoint."""
    add(signoff, *[entry(comment=f"comment {number}: ünïcödé 模型 \U0001f600 \x00") for number in range(1, 6)])
    _, found = export(signoff.database, signoff.settings, at=signoff.now())
    return list(found)


@pytest.fixture
def check(signoff: Signoff) -> Callable[[Lines], int]:
    """Verify lines with the published key; returns the number of events."""
    keys = keys_in(checkpoints.publish(signoff.settings).read_bytes())
    return lambda lines: verify(io.BytesIO(b"".join(lines)), keys).seq


class TestExport:
    def test_it_is_one_event_a_line_and_the_checkpoint_last(self, lines: Lines) -> None:
        documents = [json.loads(line) for line in lines]
        assert [document["body"]["seq"] for document in documents[:-1]] == list(range(1, 9))
        assert documents[-1].keys() == {"checkpoint", "signature"}

    def test_it_verifies(self, lines: Lines, check: Callable[[Lines], int]) -> None:
        assert check(lines) == 8
        assert check([*lines[:-1], lines[-1].strip()]) == 8

    def test_one_that_was_only_formatted_anew_verifies_too(self, lines: Lines, check: Callable[[Lines], int]) -> None:
        assert check([json.dumps(json.loads(line), indent=None).encode() + b"\r\n" for line in lines]) == 8

    def test_numbers_of_every_kind_survive(self, signoff: Signoff, check: Callable[[Lines], int]) -> None:
        details = {"small": 1e-7, "large": 1e21, "whole": 5.0, "negative": -0.0, "ﬀ": 0.1, "\U0001f600": 2}
        add(signoff, Entry(kind=Kind.APPROVAL_GIVEN, actor=ACTOR, at=signoff.now(), ref=REF, details=details))
        _, found = export(signoff.database, signoff.settings, at=signoff.now())
        assert check(list(found)) == 4

    def test_what_is_appended_meanwhile_is_not_part_of_it(
        self, signoff: Signoff, check: Callable[[Lines], int]
    ) -> None:
        _, found = export(signoff.database, signoff.settings, at=signoff.now())
        add(signoff, entry())
        assert check(list(found)) == 3

    def test_a_ledger_that_was_tampered_with_is_not_exported(self, signoff: Signoff) -> None:
        tamper(signoff, "DELETE FROM events WHERE seq = 2")
        with pytest.raises(LedgerBroken, match="comes where #2 belongs"):
            export(signoff.database, signoff.settings, at=signoff.now())

    def test_a_change_made_before_the_last_checkpoint_ends_the_export(self, signoff: Signoff, lines: Lines) -> None:
        tamper(signoff, "UPDATE events SET body = replace(body, 'comment 2', 'comment 3') WHERE seq = 5")
        _, found = export(signoff.database, signoff.settings, at=signoff.now())
        with pytest.raises(LedgerBroken, match="#5 does not fit its hash"):
            list(found)


class TestTampering:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(lambda ls: [*ls[:4], changed(ls[4], comment="x"), *ls[5:]], "#5 does not fit", id="edit"),
            pytest.param(
                lambda ls: [*ls[:4], ls[4].replace(b'"seq":5', b'"seq":5,"seq":5'), *ls[5:]],
                "cannot be",
                id="key twice",
            ),
            pytest.param(lambda ls: [*ls[:4], *ls[5:]], "#6 comes where #5 belongs", id="delete"),
            pytest.param(lambda ls: ls[1:], "#2 comes where #1 belongs", id="delete the first"),
            pytest.param(lambda ls: [*ls[:-2], ls[-1]], "cut off", id="delete the last"),
            pytest.param(lambda ls: [*ls[:5], ls[2], *ls[5:]], "#3 comes where #6 belongs", id="insert a copy"),
            pytest.param(
                lambda ls: [*ls[:5], changed(ls[4], seq=6), *ls[5:]], "#6 does not fit", id="insert something new"
            ),
            pytest.param(lambda ls: [*ls[:3], ls[4], ls[3], *ls[5:]], "#5 comes where #4 belongs", id="reorder"),
            pytest.param(lambda ls: ls[:-1], "does not end in its checkpoint", id="no checkpoint"),
            pytest.param(lambda ls: ls[:-3], "does not end in its checkpoint", id="truncate"),
            pytest.param(lambda ls: [b"".join(ls)[:-40]], "cannot be read", id="cut in the checkpoint"),
            pytest.param(lambda ls: [b"".join(ls[:4]), ls[4][:50]], "cannot be read", id="cut in an event"),
            pytest.param(lambda _: [], "does not end in its checkpoint", id="empty"),
            pytest.param(lambda ls: [ls[-1]], "there are 0", id="only the checkpoint"),
            pytest.param(lambda ls: [*ls, ls[0]], "follows the checkpoint", id="append after it"),
            pytest.param(lambda ls: [*ls, b"\n"], "follows the checkpoint", id="a line after it"),
            pytest.param(lambda ls: [ls[0], b"\n", *ls[1:]], "cannot be read", id="empty line"),
            pytest.param(
                lambda ls: recomputed([*ls[:4], changed(ls[4], comment="x"), *ls[5:]]), "written again", id="recompute"
            ),
            pytest.param(lambda ls: recomputed([*ls[:4], *ls[5:]]), "cut off", id="delete and recompute"),
            pytest.param(
                lambda ls: [*recomputed([*ls[:4], *ls[5:]])[:-1], ls[-1].replace(b'"seq":8', b'"seq":7')],
                "signature does not fit",
                id="recompute and edit the checkpoint",
            ),
            pytest.param(
                lambda ls: [*ls[:-1], ls[-1].replace(b"signoff-checkpoint/1", b"signoff-checkpoint/2")],
                "none of Signoff's",
                id="another kind of document",
            ),
            pytest.param(lambda ls: [*ls[:4], b"[" * 100_000 + b"\n", *ls[5:]], "cannot be read", id="nesting"),
            pytest.param(
                lambda ls: [*ls[:4], b'{"body":{"seq":5,"previous":NaN},"hash":"' + b"0" * 64 + b'"}\n'],
                "cannot be read",
                id="NaN",
            ),
        ],
    )
    def test_every_kind_is_found(
        self, lines: Lines, check: Callable[[Lines], int], change: Callable[[Lines], Lines], message: str
    ) -> None:
        with pytest.raises(Tampered, match=message):
            check(change(lines))

    def test_any_flipped_bit_is_found(self, lines: Lines, signoff: Signoff) -> None:
        keys, whole = checkpoints.trusted(signoff.database, signoff.settings), b"".join(lines)

        @given(st.integers(0, len(whole) - 2), st.integers(0, 7))  # the last byte is a line end, which may be missing
        def flip(position: int, bit: int) -> None:
            data = bytearray(whole)
            data[position] ^= 1 << bit
            with pytest.raises(Tampered):
                verify(io.BytesIO(bytes(data)), keys)

        flip()

    def test_a_bit_of_the_signature_that_decoding_ignores_is_found(
        self, lines: Lines, check: Callable[[Lines], int]
    ) -> None:
        before, end = lines[-1].rstrip()[:-5], lines[-1].rstrip()[-4:]  # …X=="}
        assert end == b'=="}'
        letter = lines[-1].rstrip()[-5:-4]
        with pytest.raises(Tampered, match="none of Signoff's"):
            check([*lines[:-1], before + bytes([letter[0] + 1]) + end])

    def test_another_key_is_named_and_does_not_count(self, lines: Lines) -> None:
        other = Ed25519PrivateKey.generate().public_key()
        with pytest.raises(Tampered, match="signed with another key"):
            verify(io.BytesIO(b"".join(lines)), {key_id(other): Key(public=other)})

    def test_a_key_that_goes_by_the_name_of_ours_does_not_count(self, lines: Lines, signoff: Signoff) -> None:
        (name,) = checkpoints.trusted(signoff.database, signoff.settings)
        with pytest.raises(Tampered, match="signature does not fit"):
            verify(io.BytesIO(b"".join(lines)), {name: Key(public=Ed25519PrivateKey.generate().public_key())})

    def test_a_forger_with_a_key_of_his_own_is_found(self, lines: Lines, signoff: Signoff, tmp_path: Path) -> None:
        forger = settings_in(tmp_path / "elsewhere")
        keys = checkpoints.trusted(signoff.database, signoff.settings)
        signed = json.loads(lines[-1])["checkpoint"]
        forged = checkpoints._sign(
            checkpoints._private_key(forger), ledger_id=signed["ledger"], seq=8, head=signed["hash"], at=signed["at"]
        )
        with pytest.raises(Tampered, match="signed with another key"):
            verify(io.BytesIO(b"".join([*lines[:-1], forged.text.encode()])), keys)


class TestCommand:
    def test_it_says_what_it_found_and_leaves_with_the_contracts_codes(
        self, signoff: Signoff, lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        key, file = checkpoints.publish(signoff.settings), tmp_path / "ledger.jsonl"
        file.write_bytes(b"".join(lines))
        assert main([str(file), "--public-key", str(key)]) == 0
        assert "Verified: 8 events" in capsys.readouterr().out
        file.write_bytes(b"".join(lines[:-1]))
        assert main([str(file), "--public-key", str(key)]) == 1
        assert "cut off" in capsys.readouterr().err
        assert main([str(tmp_path / "none"), "--public-key", str(key)]) == 2
        assert main([str(file), "--public-key", str(file)]) == 2
        assert "no Ed25519 public key" in capsys.readouterr().err

    def test_a_folder_copied_elsewhere_is_all_it_needs(self, signoff: Signoff, lines: Lines, tmp_path: Path) -> None:
        key = checkpoints.publish(signoff.settings)
        shutil.copytree(PROJECT / "verifier", tmp_path / "elsewhere" / "verifier")
        (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines))
        found = subprocess.run(
            [sys.executable, "-m", "verifier", str(tmp_path / "ledger.jsonl"), "--public-key", str(key)],
            cwd=tmp_path / "elsewhere",
            env={},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.startswith("Verified: 8 events")

    def test_it_imports_the_standard_library_and_one_crypto_package(self) -> None:
        allowed = {*sys.stdlib_module_names, "cryptography", "verifier"}
        for file in (PROJECT / "verifier").glob("**/*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    imported = [name.name for name in node.names]
                elif isinstance(node, ast.ImportFrom):
                    assert node.level == 0, file
                    imported = [node.module or ""]
                else:
                    continue
                assert {name.split(".", 1)[0] for name in imported} <= allowed, file

    def test_a_file_without_a_key_is_no_key(self) -> None:
        for pem in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
            with pytest.raises(UnusableKey):
                keys_in(pem)
