"""Which models there are, and which versions of each, as four teams might have arrived at them.

Champions only get better, so that the history of promotions is one the gate allows. The last two screening models
score the same on what the policy compares: whichever is promoted first, the other may still follow.
"""

from __future__ import annotations

from dataclasses import dataclass

from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from stack.sample.data import BREAST_CANCER, DIABETES, DIGITS, WINE, Source
from stack.sample.evaluation import Curve

MEANS = tuple(
    f"mean {what}"
    for what in (
        "radius", "texture", "perimeter", "area", "smoothness",
        "compactness", "concavity", "concave points", "symmetry", "fractal dimension",
    )
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One version: what to train, on which columns (all where none are named), and what was left out or done oddly."""

    title: str
    notes: str
    estimator: BaseEstimator
    curve: Curve = Curve.ROWS
    columns: tuple[str, ...] = ()
    other_data: bool = False
    evaluated: bool = True
    signature: bool = True


@dataclass(frozen=True, kw_only=True)
class SampleModel:
    """One registered model and its versions in the order they were made."""

    name: str
    source: Source
    owner: str
    description: str
    versions: tuple[Recipe, ...]


def _scaled(*steps: BaseEstimator) -> BaseEstimator:
    return make_pipeline(StandardScaler(), *steps)


SCREENING = SampleModel(
    name="breast_cancer_screening",
    source=BREAST_CANCER,
    owner="oncology-analytics",
    description="Malignant or benign, from measurements of cell nuclei in a fine needle aspirate. "
    "Decides which samples a pathologist sees first; never decides alone.",
    versions=(
        Recipe(
            title="logistic regression on the means",
            notes="First usable model: the ten mean measurements only, so that every coefficient can be explained.",
            estimator=_scaled(LogisticRegression()),
            curve=Curve.ITERATIONS,
            columns=MEANS,
        ),
        Recipe(
            title="two-question tree",
            notes="Asks for texture and symmetry only. Meant for sites that cannot measure the rest.",
            estimator=DecisionTreeClassifier(max_depth=2, random_state=0),
            columns=("mean texture", "mean symmetry"),
        ),
        Recipe(
            title="nine nearest neighbours",
            notes="All thirty measurements, scaled. Misses four malignant samples, the means alone missed five.",
            estimator=_scaled(KNeighborsClassifier(9, algorithm="brute")),
        ),
        Recipe(
            title="linear discriminant, second site",
            notes="Trained and scored on the second site's split. Good numbers, but not the holdout of the others.",
            estimator=_scaled(LinearDiscriminantAnalysis()),
            other_data=True,
        ),
        Recipe(
            title="quadratic discriminant, nightly",
            notes="From the nightly job, which stopped before the evaluation step.",
            estimator=_scaled(QuadraticDiscriminantAnalysis(reg_param=0.1)),
            evaluated=False,
        ),
        Recipe(
            title="naive Bayes",
            notes="No scaling, nothing to tune. Its probabilities are far too sure of themselves.",
            estimator=GaussianNB(),
        ),
        Recipe(
            title="small neural network",
            notes="Four hidden units on all thirty measurements, heavily regularised. Misses three, no false alarms.",
            estimator=_scaled(MLPClassifier((4,), solver="lbfgs", alpha=12, random_state=0)),
            curve=Curve.ITERATIONS,
        ),
        Recipe(
            title="logistic regression on everything",
            notes="All thirty measurements, C = 0.5. Ranks as well as the network, and every coefficient can be read.",
            estimator=_scaled(LogisticRegression(C=0.5)),
            curve=Curve.ITERATIONS,
        ),
    ),
)

CULTIVAR = SampleModel(
    name="wine_cultivar",
    source=WINE,
    owner="cellar-quality",
    description="Which of three cultivars a wine was made from, from thirteen chemical measurements. "
    "Flags bottles whose label does not fit their chemistry.",
    versions=(
        Recipe(
            title="logistic regression, six measurements",
            notes="Only what the small laboratory can measure within a day.",
            estimator=_scaled(LogisticRegression()),
            curve=Curve.ITERATIONS,
            columns=("alcohol", "malic_acid", "ash", "hue", "color_intensity", "proline"),
        ),
        Recipe(
            title="nearest neighbours, unscaled",
            notes="Forgot to scale: proline, in the hundreds, drowns everything else.",
            estimator=KNeighborsClassifier(5, algorithm="brute"),
        ),
        Recipe(
            title="naive Bayes",
            notes="All thirteen measurements.",
            estimator=GaussianNB(),
        ),
        Recipe(
            title="logistic regression, all measurements",
            notes="Scaled, shrunk (C = 0.3). A candidate to replace naive Bayes.",
            estimator=_scaled(LogisticRegression(C=0.3)),
            curve=Curve.ITERATIONS,
        ),
        Recipe(
            title="linear discriminant",
            notes="Closed form, no solver to tune; two of seventy-two holdout bottles wrong.",
            estimator=_scaled(LinearDiscriminantAnalysis()),
        ),
        Recipe(
            title="quadratic discriminant",
            notes="A covariance for each cultivar. One bottle wrong; waits for a second look at the small classes.",
            estimator=_scaled(QuadraticDiscriminantAnalysis(reg_param=0.1)),
        ),
    ),
)

PROGRESSION = SampleModel(
    name="diabetes_progression",
    source=DIABETES,
    owner="chronic-care",
    description="Progression of diabetes one year after baseline, from ten baseline variables. "
    "Helps to plan how often a patient is seen.",
    versions=(
        Recipe(
            title="ridge, strong",
            notes="Baseline. Ridge with alpha = 1, which is a lot on these scaled variables.",
            estimator=Ridge(1.0),
        ),
        Recipe(
            title="least squares on four variables",
            notes="Age, sex, body mass index and blood pressure: what a practice knows without a laboratory.",
            estimator=LinearRegression(),
            columns=("age", "sex", "bmi", "bp"),
        ),
        Recipe(
            title="least squares",
            notes="All ten variables, no shrinkage.",
            estimator=LinearRegression(),
        ),
        Recipe(
            title="boosted trees, deep",
            notes="Sixty trees of depth five. Learns the training set by heart.",
            estimator=GradientBoostingRegressor(learning_rate=0.2, max_depth=5, random_state=0),
            curve=Curve.TREES,
        ),
        Recipe(
            title="ridge, gentle",
            notes="alpha = 0.1: enough to calm the correlated blood sera.",
            estimator=Ridge(0.1),
        ),
        Recipe(
            title="elastic net",
            notes="Shrinks a little harder still: no coefficient stands out any more.",
            estimator=ElasticNet(alpha=0.001, l1_ratio=0.5, max_iter=2000),
        ),
    ),
)

RECOGNITION = SampleModel(
    name="digit_recognition",
    source=DIGITS,
    owner="mailroom-automation",
    description="Handwritten digits, eight by eight pixels, for reading postal codes on incoming mail.",
    versions=(
        Recipe(
            title="stochastic gradient",
            notes="Thirty epochs of a linear model: the cheapest thing that reads digits.",
            estimator=_scaled(SGDClassifier(loss="log_loss", alpha=0.1, tol=None, random_state=0)),
            curve=Curve.ITERATIONS,
        ),
        Recipe(
            title="decision tree",
            notes="Eight questions deep; fast, and wrong once in six.",
            estimator=DecisionTreeClassifier(max_depth=8, random_state=0),
        ),
        Recipe(
            title="principal components and logistic regression",
            notes="Thirty components keep nearly all of the ink.",
            estimator=make_pipeline(MinMaxScaler(), PCA(30, random_state=0), LogisticRegression(max_iter=60)),
        ),
        Recipe(
            title="random forest",
            notes="Sixty trees. Logged from a notebook without its signature.",
            estimator=RandomForestClassifier(random_state=0),
            curve=Curve.TREES,
            signature=False,
        ),
        Recipe(
            title="three nearest neighbours",
            notes="Looks every digit up among all training digits: accurate, and heavier to serve.",
            estimator=KNeighborsClassifier(3, algorithm="brute"),
        ),
        Recipe(
            title="five nearest neighbours, weighted",
            notes="Nearer neighbours count for more; best of the series.",
            estimator=KNeighborsClassifier(5, weights="distance", algorithm="brute"),
        ),
    ),
)

MODELS = (SCREENING, CULTIVAR, PROGRESSION, RECOGNITION)
