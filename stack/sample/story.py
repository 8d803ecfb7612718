"""What people said and did about the sample models, in the order they did it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.domain import VersionRef

SCREENING, CULTIVAR = "breast_cancer_screening", "wine_cultivar"
PROGRESSION, RECOGNITION = "diabetes_progression", "digit_recognition"


class Deed(StrEnum):
    """What was done, as the kind of event it leaves in the ledger."""

    SUBMIT = "submission:confirmed"
    APPROVE = "approval:given"
    ASK_FOR_CHANGES = "changes:requested"
    REJECT = "rejection:confirmed"
    PROMOTE = "promotion:confirmed"
    PROMOTE_IN_VAIN = "promotion:refused"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One deed of one person, with their words."""

    deed: Deed
    ref: VersionRef
    by: str
    words: str


def _step(deed: Deed, by: str, name: str, version: int, words: str) -> Step:
    return Step(deed=deed, ref=VersionRef(name=name, version=version), by=by, words=words)


def _submitted(name: str, version: int, words: str) -> Step:
    return _step(Deed.SUBMIT, "scientist", name, version, words)


def _promoted(name: str, version: int, words: str) -> Step:
    return _step(Deed.PROMOTE, "release_manager", name, version, words)


def _approved(name: str, version: int, words: str, by: str = "reviewer") -> Step:
    return _step(Deed.APPROVE, by, name, version, words)


STORY = (
    _submitted(SCREENING, 1, "First model for the screening pilot. Ten means only, so that we can explain each one."),
    _approved(
        SCREENING,
        1,
        "Checked the confusion matrix: 5 of 64 malignant samples missed, 5 false alarms. Fine for a pilot.",
    ),
    _promoted(SCREENING, 1, "Pilot starts on Monday in two clinics."),
    _submitted(CULTIVAR, 1, "Uses what the small laboratory can measure within a day."),
    _approved(
        CULTIVAR, 1, "93 % on bottles it has never seen, and the laboratory agrees with the columns.", "reviewer2"
    ),
    _promoted(CULTIVAR, 1, "Replaces the spreadsheet in the cellar."),
    _submitted(PROGRESSION, 1, "A baseline to measure the others against."),
    _approved(
        PROGRESSION, 1, "Explains 38 % of the variance, which is what the literature gets from these ten columns."
    ),
    _promoted(PROGRESSION, 1, "Something has to be in place before the winter planning."),
    _submitted(RECOGNITION, 1, "Reads digits at 92 %. Good enough to sort what a person then confirms."),
    _approved(RECOGNITION, 1, "Mixes up 1 with 9 mostly, and a person looks at every envelope anyway.", "reviewer2"),
    _promoted(RECOGNITION, 1, "Mailroom trial, morning shift only."),
    _step(
        Deed.PROMOTE_IN_VAIN,
        "release_manager",
        SCREENING,
        2,
        "The third clinic cannot measure all ten columns and asks for the short form this week.",
    ),
    _submitted(SCREENING, 3, "Neighbours on all thirty measurements find three of the five samples that v1 misses."),
    _approved(
        SCREENING,
        3,
        "Better on AUC, accuracy and F1 on the same holdout. Slower, but still a few milliseconds for the whole batch.",
        "reviewer2",
    ),
    _promoted(SCREENING, 3, "Pilot review on Thursday asked for fewer missed samples."),
    _submitted(CULTIVAR, 3, "With all thirteen measurements, which the new instrument delivers within the hour."),
    _approved(CULTIVAR, 3, "One bottle more right than v1, and the third cultivar without a single error."),
    _promoted(CULTIVAR, 3, "The new instrument is installed."),
    _submitted(PROGRESSION, 3, "No shrinkage at all: the strong ridge was throwing information away."),
    _approved(PROGRESSION, 3, "Residuals look even over the whole range. RMSE down by 1.8.", "reviewer2"),
    _promoted(PROGRESSION, 3, "Agreed with chronic care in the monthly call."),
    _submitted(
        RECOGNITION, 3, "Thirty principal components, then logistic regression. A third of v1's errors are gone."
    ),
    _approved(RECOGNITION, 3, "Same holdout, better on every metric. Nines are no longer mistaken for fives."),
    _promoted(RECOGNITION, 3, "Mailroom trial is extended to both shifts."),
    _submitted(PROGRESSION, 4, "Boosted trees catch interactions that a line cannot."),
    _step(
        Deed.REJECT,
        "reviewer",
        PROGRESSION,
        4,
        "Training loss goes to 5 while validation loss turns up after eight trees: it knows the patients by heart. "
        "Please come back with something much smaller.",
    ),
    _submitted(SCREENING, 6, "Naive Bayes as a cheap second opinion."),
    _step(
        Deed.REJECT,
        "reviewer2",
        SCREENING,
        6,
        "Ranks worse than v3, and a log loss of 0.85 means it is sure of itself when wrong. Nobody could act on that.",
    ),
    _submitted(RECOGNITION, 4, "Random forest, two points better than v3."),
    _step(
        Deed.ASK_FOR_CHANGES,
        "reviewer",
        RECOGNITION,
        4,
        "Good numbers, but it was logged without a signature, so serving could not reject malformed images. "
        "Please log it again with signature and input example.",
    ),
    _submitted(PROGRESSION, 5, "A little ridge back in (alpha = 0.1): best of both."),
    _approved(
        PROGRESSION,
        5,
        "R² up to 0.44 and nearly a whole point less RMSE than v3. Coefficients look stable. Please release.",
    ),
    _submitted(
        CULTIVAR,
        5,
        "Linear discriminant: two bottles wrong of seventy-two, closed form, nothing to tune. Ready from my side.",
    ),
)
