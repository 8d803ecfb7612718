"""Which way is better: what a policy says about a metric, else what its name says by common convention."""

from __future__ import annotations

import re
from enum import StrEnum

from services.policy import Policy


class Direction(StrEnum):
    """Which values of a metric are better. ``UNKNOWN`` is an answer: then a change is neither good nor bad."""

    HIGHER = "higher"
    LOWER = "lower"
    UNKNOWN = "unknown"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words inside a name, as MLflow's evaluators, scikit-learn's scorers and common training loops write them.
LOWER_WORDS = _words(
    "loss error err errors mse rmse mae mape smape mdape wape rmsle msle nll logloss perplexity ppl deviance hinge "
    "brier ece crossentropy entropy divergence wer cer mer fpr fnr fdr aic bic regret psi drift toxicity "
    "latency duration time seconds secs sec ms millis runtime cost memory bytes mb gb davies grade"
)
HIGHER_WORDS = _words(
    "accuracy acc auc auroc auprc roc prauc f1 f2 fbeta precision recall sensitivity specificity tpr tnr r2 explained "
    "score mcc matthews kappa jaccard iou dice map mrr ndcg gini lift bleu rouge meteor silhouette calinski rand "
    "homogeneity completeness nmi ami concordance cindex pearson spearman kendall correlation psnr ssim throughput "
    "qps relevance faithfulness similarity correctness top1 top5 likelihood match rouge1 rouge2"
)
NEUTRAL_WORDS = _words("threshold cutoff count num n size seed step steps epoch epochs iteration iterations")
"""A name with one of these says where or how often, not how well: ``best_f1_threshold``, ``error_count``."""
SPREAD = frozenset({"variance", "var", "std", "stddev"})
"""Last in a name it says how much a metric scatters, not how good it is: ``toxicity/v1/variance``."""
WRONG_OUTCOMES = re.compile(r"(^|_)(false_(positive|negative)s?|fp|fn|negative_(log_)?likelihood)(_|$)")
RIGHT_OUTCOMES = re.compile(r"(^|_)(true_(positive|negative)s?|tp|tn)(_|$)")
SHARE_EXPLAINED = re.compile(r"(^|_)(r2|d2|explained)(_|$)")
"""How much of something is explained, whatever that is: ``d2_absolute_error_score``, ``explained_variance``."""
TRAINING = re.compile(r"^(train|training|fit)(_|$)")


def direction(name: str, policy: Policy | None = None) -> Direction:
    """Which way is better for the metric ``name``.

    A policy's word counts first. Then the name, by what MLflow and scikit-learn call things: ``neg_`` scorers are
    higher-is-better; a word for a loss, an error, a duration or a size means lower, also beside a word such as
    ``score`` (``brier_score``).
    """
    if policy and (rule := policy.metric(name)):
        return Direction.HIGHER if rule.greater_is_better else Direction.LOWER
    spelled = _spelled(name)
    parts = spelled.split("_")
    words = set(parts)
    if words & NEUTRAL_WORDS or (parts[-1] in SPREAD and "explained" not in words):
        return Direction.UNKNOWN
    if "neg" in words or RIGHT_OUTCOMES.search(spelled) or SHARE_EXPLAINED.search(spelled):
        return Direction.HIGHER
    if words & LOWER_WORDS or WRONG_OUTCOMES.search(spelled):
        return Direction.LOWER
    return Direction.HIGHER if words & HIGHER_WORDS else Direction.UNKNOWN


def says_how_good(name: str) -> bool:
    """Whether a metric may count when two versions are compared.

    What was measured on the training data rewards learning by heart, and ``system/…`` is MLflow watching the machine.
    """
    return not name.startswith("system/") and not TRAINING.match(_spelled(name))


def is_share(name: str) -> bool:
    """Whether a metric is by its name a share between 0 and 1 of which more is better, such as an accuracy."""
    words = set(_spelled(name).split("_"))
    shares = {"accuracy", "acc", "auc", "auroc", "auprc", "f1", "f2", "fbeta", "precision", "recall", "sensitivity"}
    return bool(words & (shares | {"specificity", "tpr", "tnr", "jaccard", "iou", "dice", "ndcg", "map", "mrr", "r2"}))


def _spelled(name: str) -> str:
    """``valLogLoss``, ``val-log-loss`` and ``val/log loss`` all as ``val_log_loss``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
