"""The holdout of a job, from wherever it comes."""

from __future__ import annotations

from services.domain import Dataset
from services.errors import NotFound
from services.signoff import Signoff
from services.validation import holdout, uploads
from services.validation.holdout import Holdout, HoldoutLimits, Places
from services.validation.jobs import Job, Origin

LIMITS = HoldoutLimits(bytes=uploads.MAX_BYTES)


def read(signoff: Signoff, job: Job) -> Holdout:
    """Read and check it.

    Raises:
        HoldoutRefused: one of its subclasses says what is wrong with the data.
        SourceNotAllowed: the server may not read from there.
        NotFound: the candidate's run logged no such data set, or what was uploaded is gone.
        RegistryUnavailable: MLflow did not answer.
    """
    wanted = job.wanted
    match wanted.origin:
        case Origin.UPLOAD:
            try:
                with uploads.file(signoff.settings, wanted.folder).open("rb") as content:
                    return holdout.from_upload(content, file_name=wanted.name, target=wanted.target, limits=LIMITS)
            except FileNotFoundError as error:
                raise NotFound("What was uploaded is not there any more; upload it again.") from error
        case Origin.PLACE:
            return holdout.from_place(wanted.name, target=wanted.target, places=places(signoff), limits=LIMITS)
        case Origin.DATASET:
            dataset = _logged(signoff, job)
            return holdout.from_dataset(dataset, target=wanted.target, places=places(signoff), limits=LIMITS)


def _logged(signoff: Signoff, job: Job) -> Dataset:
    version, wanted = signoff.registry.version(job.ref), job.wanted.name
    logged = signoff.registry.run(version.run_id).datasets if version.run_id else ()
    found = [dataset for dataset in logged if wanted in {dataset.name, dataset.digest}]
    if not found:
        names = ", ".join(f"{dataset.name} ({dataset.digest})" for dataset in logged) or "none"
        raise NotFound(f"The run of {job.ref} logged no data set {wanted!r}; it logged {names}.")
    return found[0]


def places(signoff: Signoff) -> Places:
    """Where this server may read holdouts from, by its settings."""
    return Places(folders=signoff.settings.holdouts)
