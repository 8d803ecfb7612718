"""The key that signs checkpoints, and its replacement: both keys sign it, and the old one counts up to there only."""

from __future__ import annotations

import base64
import io
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from commands import main
from services.errors import BadInput, LedgerBroken
from services.record import checkpoints, condition, ledger, rotation
from services.record.condition import State
from services.record.export import export
from services.record.ledger import Entry, Kind
from services.settings import Settings, earlier_checkpoint_seeds
from services.signoff import Signoff
from tests.conftest import BOTH, SECRET, settings_in
from tests.test_checkpoints import tamper
from tests.test_ledger import ACTOR, add, entry
from verifier.canonical import canonical
from verifier.keys import Key, Keys, key_id, keys_in, led_to, rotation_in, statement
from verifier.verify import Tampered, verify

DATABASES = BOTH
FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))


def private(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


def public(seed: bytes) -> Keys:
    key = private(seed).public_key()
    return {key_id(key): Key(public=key)}


def with_key(signoff: Signoff, seed: bytes) -> Signoff:
    """The same Signoff, started with another key."""
    return replace(signoff, settings=replace(signoff.settings, checkpoint_seed=seed))


def sign(signoff: Signoff) -> checkpoints.Signed:
    return checkpoints.create(signoff.database, signoff.settings, at=signoff.now())


def rotate(signoff: Signoff, old: bytes, new: bytes) -> int:
    return rotation.rotate(signoff.database, signoff.settings, old=old, new=new, by=ACTOR, at=signoff.now()).seq


def exported(signoff: Signoff) -> bytes:
    return b"".join(export(signoff.database, signoff.settings, at=signoff.now())[1])


def live(signoff: Signoff) -> int:
    return checkpoints.verify(signoff.database, checkpoints.trusted(signoff.database, signoff.settings)).seq


@pytest.fixture
def first(signoff: Signoff) -> Signoff:
    """Five events, signed with the first key."""
    add(signoff, entry())
    found = with_key(signoff, FIRST)
    sign(found)
    return found


@pytest.fixture
def third(first: Signoff) -> Signoff:
    """Two rotations later, at events 6 and 8, with an event after each."""
    assert rotate(first, FIRST, SECOND) == 6
    add(first, entry())
    assert rotate(first, SECOND, THIRD) == 8
    add(first, entry())
    found = with_key(first, THIRD)
    sign(found)
    return found


class TestLiveLedger:
    def test_follows_the_rotations_back_from_the_present_key(self, third: Signoff) -> None:
        assert live(third) == 9
        keys = checkpoints.trusted(third.database, third.settings)
        assert [(key.since, key.until) for key in keys.values()] == [(8, None), (0, 6), (6, 8)]

    @pytest.mark.postgresql
    def test_trusts_no_key_that_somebody_writes_into_the_published_file(self, first: Signoff) -> None:
        forger = with_key(first, SECOND)
        tamper(first, "DELETE FROM checkpoints")
        checkpoints.publish(forger.settings)
        sign(forger)
        assert checkpoints.public_key_file(first.settings).read_bytes()
        with pytest.raises(Tampered, match="no rotation leads there"):
            live(first)

    def test_says_what_to_do_where_the_key_was_changed_without_a_rotation(self, first: Signoff) -> None:
        changed = with_key(first, SECOND)
        told = "The checkpoint of event #5 is signed with key .*'signoff ledger rotate-key' records that"
        with pytest.raises(Tampered, match=told):
            live(changed)
        with pytest.raises(LedgerBroken, match=told):
            sign(changed)
        assert condition.of(changed, patience=10).state is State.TAMPERED
        assert rotate(changed, FIRST, SECOND) == 6
        assert live(changed) == 6

    def test_does_not_honour_a_replaced_key_for_what_came_later(self, first: Signoff) -> None:
        rotate(first, FIRST, SECOND)
        add(first, entry())
        with pytest.raises(LedgerBroken, match="was replaced at event #6: start it with the new key"):
            sign(first)
        second = with_key(first, SECOND)
        with first.database.reading() as connection:
            name, (seq, head) = ledger.ledger_id(connection), ledger.head(connection)
        forged = checkpoints._sign(private(FIRST), ledger_id=name, seq=seq, head=head, at="2026-11-01")
        with pytest.raises(Tampered, match=r"which is honoured for events #0 to #6 only"):
            checkpoints._require_genuine(forged, checkpoints.trusted(first.database, second.settings))

    def test_a_process_with_the_old_key_still_reads_what_the_new_one_signed(self, first: Signoff) -> None:
        rotate(first, FIRST, SECOND)
        assert live(first) == 6
        judged = condition.of(first, patience=10)
        assert judged.state is State.UNWITNESSED
        assert "replaced at event #6: start Signoff with the new one" in judged.sentence


class TestRotation:
    def test_is_signed_by_both_keys_over_ledger_number_and_keys(self, third: Signoff) -> None:
        with third.database.reading() as connection:
            found = [rotation_in(event.body) for event in ledger.numbered(connection, [6, 8])]
            name = ledger.ledger_id(connection)
        assert [(one.ledger, one.seq) for one in found] == [(name, 6), (name, 8)]

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            (SECOND, SECOND, "The new key is the present one"),
            (FIRST, THIRD, "was replaced at event #6 by another key"),
            (SECOND, FIRST, "was replaced before, and cannot be brought back"),
        ],
    )
    def test_to_what_makes_no_sense_is_refused_and_leaves_no_event(
        self, first: Signoff, old: bytes, new: bytes, told: str
    ) -> None:
        rotate(first, FIRST, SECOND)
        with pytest.raises(BadInput, match=told):
            rotate(first, old, new)
        assert live(with_key(first, SECOND)) == 6

    def test_from_a_key_that_did_not_sign_this_ledger_is_refused_and_leaves_no_event(self, first: Signoff) -> None:
        with pytest.raises(LedgerBroken, match="no rotation leads there"):
            rotate(first, SECOND, THIRD)
        assert live(first) == 5

    def test_may_be_repeated(self, first: Signoff) -> None:
        assert rotate(first, FIRST, SECOND) == rotate(first, FIRST, SECOND) == 6

    @pytest.mark.parametrize("signer", ["old", "new"])
    def test_that_one_of_the_keys_did_not_sign_is_tampering(self, first: Signoff, signer: str) -> None:
        keys = {"old": private(FIRST), "new": private(SECOND)}
        with first.database.writing() as connection:
            said = statement(ledger.ledger_id(connection), 6, keys["old"].public_key(), keys["new"].public_key())
            keys[signer] = private(THIRD)
            signed = {name: base64.b64encode(key.sign(canonical(said))).decode() for name, key in keys.items()}
            details = {"statement": said, "signatures": signed}
            ledger.append(connection, Entry(kind=Kind.KEY_ROTATED, actor=ACTOR, at=first.now(), details=details))
        with pytest.raises(LedgerBroken, match="#6 replaces the signing key, and not both keys signed that"):
            live(with_key(first, SECOND))


class TestVerifier:
    @pytest.mark.parametrize("given", [FIRST, SECOND, THIRD])
    def test_given_any_of_the_keys_it_follows_the_rotations(self, third: Signoff, given: bytes) -> None:
        assert verify(io.BytesIO(exported(third)), public(given)).seq == 9

    def test_another_key_leads_nowhere(self, third: Signoff) -> None:
        with pytest.raises(Tampered, match="which no rotation on record leads to"):
            verify(io.BytesIO(exported(third)), public(b"x" * 32))

    def test_a_key_that_was_replaced_signs_no_later_end(self, third: Signoff) -> None:
        lines = exported(third).splitlines(keepends=True)
        end = json.loads(lines[-1])["checkpoint"]
        parts = {"ledger_id": end["ledger"], "seq": end["seq"], "head": end["hash"], "at": end["at"]}
        for seed in (FIRST, SECOND):
            forged = checkpoints._sign(private(seed), **parts).text.encode()
            with pytest.raises(Tampered, match="is honoured for events"):
                verify(io.BytesIO(b"".join([*lines[:-1], forged])), public(seed))

    def test_rotations_that_do_not_follow_each_other_are_refused(self, third: Signoff) -> None:
        name = json.loads(exported(third).splitlines()[-1])["checkpoint"]["ledger"]
        with third.database.reading() as connection:
            one, two = (rotation_in(event.body) for event in ledger.numbered(connection, [6, 8]))
        with pytest.raises(Tampered, match="#8 replaces a signing key that was not in use"):
            led_to(public(FIRST), [one, replace(two, old=private(b"x" * 32).public_key())], name)
        with pytest.raises(Tampered, match="#8 brings a signing key back"):
            led_to(public(FIRST), [one, replace(two, new=one.old)], name)
        assert led_to(public(FIRST), [one, two], "another ledger") == public(FIRST)


class TestPublishedKey:
    def test_is_that_of_the_settings_from_the_start_of_each_dashboard(self, first: Signoff, tmp_path: Path) -> None:
        other = replace(first.settings, home=tmp_path / "another", checkpoint_seed=FIRST)
        for seed in (FIRST, SECOND):
            Signoff.wire(settings=replace(other, checkpoint_seed=seed), registry=first.registry, now=first.now)
            assert keys_in(checkpoints.public_key_file(other).read_bytes()).keys() == public(seed).keys()
        assert stat.S_IMODE(other.home.stat().st_mode) == 0o700


class TestCommand:
    @pytest.fixture
    def run(self, first: Signoff, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
        def command(*arguments: str, settings: Settings | None = None) -> int:
            monkeypatch.setattr("commands.ledger.opened", lambda **_: (settings or first.settings, first.database))
            monkeypatch.setattr("services.mlflow.registry.MlflowRegistry", lambda _: first.registry)
            with pytest.raises(SystemExit) as left:
                main(list(arguments))
            return int(left.value.code or 0)

        return command

    def test_a_key_in_the_home_folder_is_made_anew_and_kept_private(
        self, run: Callable[..., int], first: Signoff
    ) -> None:
        home = first.settings.home
        file = home / "checkpoint-key"
        file.write_text(base64.b64encode(FIRST).decode())
        assert run("ledger", "rotate-key") == 0
        seed = base64.b64decode(file.read_text())
        assert seed != FIRST
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not list(home.glob("checkpoint-key.new"))
        assert live(with_key(first, seed)) == 6
        (name,) = public(seed)
        assert name in checkpoints.own_key(with_key(first, seed).settings)

    def test_a_crash_before_the_file_was_replaced_is_made_good_by_the_same_command(
        self, run: Callable[..., int], first: Signoff
    ) -> None:
        file = first.settings.home / "checkpoint-key"
        file.write_text(base64.b64encode(FIRST).decode())
        (first.settings.home / "checkpoint-key.new").write_text(base64.b64encode(SECOND).decode())
        rotate(first, FIRST, SECOND)
        assert run("ledger", "rotate-key") == 0
        assert base64.b64decode(file.read_text()) == SECOND
        assert live(with_key(first, SECOND)) == 6

    def test_a_given_key_is_replaced_where_the_one_before_is_at_hand(
        self,
        run: Callable[..., int],
        first: Signoff,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        second = replace(first.settings, checkpoint_seed=SECOND)
        assert run("ledger", "rotate-key", settings=second) == 2
        assert "is not at hand: name it in SIGNOFF_EARLIER_CHECKPOINT_KEY" in capsys.readouterr().err
        assert run("ledger", "rotate-key") == 2
        assert "is the present one. Set SIGNOFF_CHECKPOINT_KEY to the new key" in capsys.readouterr().err
        monkeypatch.setenv("SIGNOFF_EARLIER_CHECKPOINT_KEY", base64.b64encode(FIRST).decode())
        assert run("ledger", "rotate-key", "--json", settings=second) == 0
        assert json.loads(capsys.readouterr().out) == {"event": 6, "key": next(iter(public(SECOND)))}
        assert live(with_key(first, SECOND)) == 6

    def test_a_derived_key_follows_from_the_secret_key_before(self, tmp_path: Path) -> None:
        url = {"SIGNOFF_DATABASE_URL": "sqlite:///x", "MLFLOW_TRACKING_URI": "http://m", "SIGNOFF_EMBEDDED": ""}
        before = settings_in(tmp_path, SIGNOFF_SECRET_KEY=SECRET, **url)
        after = settings_in(tmp_path, SIGNOFF_SECRET_KEY="n" * 32, SIGNOFF_EARLIER_SECRET_KEYS=SECRET, **url)
        assert before.checkpoint_seed in earlier_checkpoint_seeds(after, {})

    def test_an_export_is_verified_with_the_key_of_this_machine_and_not_with_a_file_in_its_home(
        self, run: Callable[..., int], third: Signoff, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "record.jsonl"
        file.write_bytes(exported(third))
        checkpoints.publish(replace(third.settings, checkpoint_seed=b"x" * 32))
        assert run("ledger", "verify", str(file), settings=third.settings) == 0
        other = replace(third.settings, checkpoint_seed=b"x" * 32)
        assert run("ledger", "verify", str(file), settings=other) == 1
        assert "signed with another key" in capsys.readouterr().err
