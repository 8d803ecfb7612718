"""The verb behind a move that anybody may make from outside: recorded, and decided by nobody."""

from __future__ import annotations

from services.admission.outside import Free, Move, meaning
from services.admission.standing import scene
from services.domain import Actor
from services.errors import PromotionConflict
from services.record.ledger import Event
from services.signoff import Signoff
from services.steps import changes, intents
from services.steps.intents import Judged
from services.verbs.common import refusals_recorded, slot_held, words

WORDS = "Moved by an MLflow client."


def move(signoff: Signoff, wanted: Move, *, actor: Actor, reason: str = "") -> Event:
    """Record a free move as an intent, under the model's slot; returns its event, as `intents.carry_out` does.

    Raises:
        PromotionConflict: somebody holds the slot, or it is no longer free to move.
        NotFound, RegistryUnavailable, LedgerUnavailable: nothing was changed.
    """
    ref = wanted.ref
    with (
        refusals_recorded(signoff, "transition", actor, ref),
        slot_held(signoff, ref, actor, f"moving v{ref.version}", free=True) as slot,
    ):
        model, versions = signoff.registry.model(ref.name), signoff.registry.versions(ref.name)
        now = scene(signoff, model, versions)
        version = now.versions.get(ref.version)
        if version is None or not isinstance(meaning(now, wanted), Free):
            raise PromotionConflict(f"Someone else changed {ref} first. Look again.")
        change = changes.prescribe(
            model,
            versions,
            ref,
            stage=wanted.stage or version.stage,
            alone=wanted.archive_existing,
            point=[wanted.alias] if wanted.alias and not wanted.deleted else [],
            unpoint=[wanted.alias] if wanted.alias and wanted.deleted else [],
        )
        return intents.carry_out(
            signoff,
            slot,
            subject="transition",
            change=change,
            comment=words(reason, "reason") if reason else WORDS,
            judge=lambda _: Judged(actor=actor, context={"identity": version.identity}),
        )
