"""Membership attacks on one model: whether forgotten rows still look like its training rows.

An attack learns to tell the model's retain rows from test rows by one feature, and is then asked
about the forget rows. Logistic regression on the entropy: Chundawat, Tarun, Mandal, Kankanhalli
(2023), Can Bad Teaching Induce Forgetting?, and Foster, Schoepf, Brintrup (2024), Fast Machine
Unlearning Without Retraining Through Selective Synaptic Dampening. Support vectors: Jia, Liu, Ram,
Yao, Liu, Liu, Sharma, Liu (2023), Model Sparsity Can Simplify Machine Unlearning. Logistic
regression on the loss of forgotten against unseen rows: Choi, Na (2023), Towards Machine Unlearning
Benchmarks. Boosted trees on sorted probabilities: Shen, Zhang, Zhao, Bialkowski, Chen, Xu (2024),
Label-Agnostic Forgetting.

All are read beside the oracle's value: on rows that a model never saw they do not say 0.5.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.matrix import Signals
from expunge.signals.metric import Metric
from expunge.signals.predictions import Predictions

LOGISTIC_MIA = Metric(
    "LR-MIA",
    "closer to the oracle",
    "share of forget rows called members by logistic regression, retain against test rows",
    level=0.5,
)
SVC_MIA = Metric(
    "SVC-MIA efficacy",
    "closer to the oracle",
    "share of forget rows called non-members by support vectors, retain against test rows",
    level=0.5,
)
SVC_PRIVACY = Metric(
    "SVC-MIA privacy",
    "closer to the oracle",
    "mean of the shares of retain rows called members and of test rows called non-members",
    level=0.5,
)
LOSS_MIA = Metric(
    "loss MIA",
    "closer to the oracle",
    "cross-validated accuracy of logistic regression on the loss, forget against unseen rows",
    level=0.5,
)
BOOSTED_MIA = Metric(
    "ASR",
    "closer to the oracle",
    "share that boosted trees tell right of forget rows (members) and as many unseen test rows",
    level=0.5,
)

MOST_ROWS = 10_000
"""Rows of each side that support vectors are fitted on, as the papers do on CIFAR. The time grows
with the square: about half a minute a model at 10,000, a second at 2,000."""

Answers = TypeVar("Answers", Predictions, Signals)
Numbers = npt.NDArray[np.float64]


def logistic_mia(
    forget: Answers, retain: Answers, test: Answers, feature: Callable[[Answers], Tensor]
) -> Tensor:
    """LR-MIA: share of the forget rows that are called members, (models,) float64.

    A logistic regression, balanced over the two sides, is fitted on all retain rows (members) and
    all test rows. The papers take :func:`~expunge.signals.membership_features.entropy`.

    Args:
        forget: answers on the forget rows.
        retain: the same models' answers on the retain training rows.
        test: on rows nobody trained on; for the removal of a class without that class.
        feature: one of :mod:`~expunge.signals.membership_features`.

    Raises:
        ExpungeError: the models differ, a row is in two sets, or a feature is not finite.
    """
    from sklearn.linear_model import LogisticRegression

    _check_sets({"forget": forget, "retain": retain, "test": test})
    asked, members, others = feature(forget), feature(_by_digest(retain)), feature(_by_digest(test))

    def attack() -> Any:
        return LogisticRegression(class_weight="balanced", max_iter=1000)

    return _called_members(attack, members, others, [asked])[0]


def svc_mia(
    forget: Answers,
    retain: Answers,
    test: Answers,
    feature: Callable[[Answers], Tensor],
    penalty: float = 3.0,
    seed: int = 0,
    most: int = MOST_ROWS,
) -> Tensor:
    """SVC-MIA efficacy: share of the forget rows that are called NON-members, (models,) float64.

    Support vectors with an RBF kernel of width 1 / (number of features) are fitted on equally many
    retain rows (members) and test rows. The papers take the first retain rows; here they are drawn
    by their ids, so that the order of the rows (often that of the classes) does not matter. Their
    tables take :func:`~expunge.signals.membership_features.confidence`.

    Args:
        forget: answers on the forget rows.
        retain: the same models' answers on the retain training rows.
        test: on rows nobody trained on; for the removal of a class without that class.
        feature: one of :mod:`~expunge.signals.membership_features`.
        penalty: the C of the support vectors.
        seed: draws the rows.
        most: rows of each side at most.

    Raises:
        ExpungeError: the models differ, a row is in two sets, or a feature is not finite.
    """
    _check_sets({"forget": forget, "retain": retain, "test": test})
    members, others = _equally_many(retain, test, seed, most)
    attack, asked = _support_vectors(penalty), feature(forget)
    return 1.0 - _called_members(attack, feature(members), feature(others), [asked])[0]


def svc_privacy(
    retain: Answers,
    test: Answers,
    feature: Callable[[Answers], Tensor],
    penalty: float = 3.0,
    seed: int = 0,
    most: int = MOST_ROWS,
) -> Tensor:
    """How well the attack of :func:`svc_mia` knows the rows it was fitted on, (models,) float64.

    The mean of its recall of members among the retain rows and of non-members among the test rows.

    Raises:
        ExpungeError: the models differ, a row is in two sets, or a feature is not finite.
    """
    _check_sets({"retain": retain, "test": test})
    members, others = (feature(side) for side in _equally_many(retain, test, seed, most))
    attack = _support_vectors(penalty)
    inside, outside = _called_members(attack, members, others, [members, others])
    return (inside + 1.0 - outside) / 2


def boosted_mia(
    forget: Answers,
    retain: Answers,
    test: Answers,
    feature: Callable[[Answers], Tensor],
    most: int = 5_000,
) -> Tensor:
    """ASR: how often boosted trees are right about forget rows and unseen ones, (models,) float64.

    A hundred trees are fitted on equally many retain rows (members) and test rows, half of these at
    most, all drawn by their ids. They are asked about as many of the other test rows as forget
    rows; members is the right answer about the latter, also where they were forgotten. The paper
    takes :func:`~expunge.signals.membership_features.sorted_probabilities` and the trees of
    XGBoost; here they are those of scikit-learn (``HistGradientBoostingClassifier``).

    Args:
        forget: answers on the forget rows.
        retain: the same models' answers on the retain training rows.
        test: on rows nobody trained on.
        feature: one of :mod:`~expunge.signals.membership_features`.
        most: rows of each side at most.

    Raises:
        ExpungeError: there are fewer than two test rows, the models differ, a row is in two sets,
            or a feature is not finite.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    _check_sets({"forget": forget, "retain": retain, "test": test})
    if len(test.samples) < 2:
        raise ExpungeError(
            f"The boosted attack got {len(test.samples)} test rows; at least 2 are expected, one "
            "to learn from and one to be asked about."
        )
    count = min(most, len(retain.samples), len(test.samples) // 2)
    drawn = _by_digest(test).samples
    known, unseen = test.of_samples(drawn[:count]), test.of_samples(drawn[count:])
    forgotten, unseen = _equally_many(forget, unseen, 0, None)
    attack = partial(HistGradientBoostingClassifier, max_iter=100, random_state=0)
    members = _by_digest(retain, 0, count)
    sides = [feature(forgotten), feature(unseen)]
    called, wrongly = _called_members(attack, feature(members), feature(known), sides)
    return (called + 1.0 - wrongly) / 2


def cross_validated_mia(
    first: Answers,
    second: Answers,
    feature: Callable[[Answers], Tensor],
    splits: int = 10,
    seed: int = 42,
) -> Tensor:
    """How well logistic regression tells two sets apart, in accuracy on rows left out, (models,).

    Both sets have equally many rows, drawn by their ids; the accuracy is the mean over stratified
    shuffled splits of 10 % of the rows. With ``first`` the forget rows, ``second`` unseen rows and
    :func:`~expunge.signals.membership_features.loss` it is the loss MIA of Choi and Na. With retain
    and test rows it says whether a feature tells members from others at all.

    Raises:
        ExpungeError: fewer than 10 rows on one side, the models differ, a row is in two sets, or a
            feature is not finite.
    """
    _check_sets({"first": first, "second": second})
    if min(len(first.samples), len(second.samples)) < 10 or splits < 1:
        raise ExpungeError(
            f"The cross-validated attack got {len(first.samples)} and {len(second.samples)} rows "
            f"and {splits} splits; at least 10 rows a side and 1 split are expected, since a tenth "
            "of the rows is left out each time."
        )
    sides = [_checked(feature(side)) for side in _equally_many(first, second, seed, None)]
    found = [_split_accuracy(a, b, splits, seed) for a, b in zip(*sides, strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def _split_accuracy(first: Numbers, second: Numbers, splits: int, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

    rows, sides = np.concatenate([first, second]), np.repeat([1, 0], [len(first), len(second)])
    if (rows == rows[0]).all():
        return 0.5
    shuffled = StratifiedShuffleSplit(splits, test_size=0.1, random_state=seed)
    attack = LogisticRegression(max_iter=1000)
    return float(cross_val_score(attack, rows, sides, cv=shuffled, scoring="accuracy").mean())


def _called_members(
    attack: Callable[[], Any], members: Tensor, others: Tensor, asked: Iterable[Tensor]
) -> list[Tensor]:
    """Share called members (models,) of each set in ``asked`` (models, n, d).

    Where one value stands for all rows fitted on, there is nothing to go by: the share is a half.
    """
    known = [_checked(members), _checked(others)]
    found = []
    wanted = [_checked(each) for each in asked]
    for model in range(len(members)):
        rows = np.concatenate([side[model] for side in known])
        if (rows == rows[0]).all():
            found.append([0.5 for _ in wanted])
            continue
        sides = np.repeat([1, 0], [side.shape[1] for side in known])
        fitted = attack().fit(rows, sides)
        found.append([float(fitted.predict(each[model]).mean()) for each in wanted])
    return list(torch.tensor(found, dtype=torch.float64).T)


def _support_vectors(penalty: float) -> Callable[[], Any]:
    from sklearn.svm import SVC

    if not penalty > 0:
        raise ExpungeError(
            f"SVC-MIA got the penalty C = {penalty:g}; a positive number is expected."
        )
    return lambda: SVC(C=penalty, kernel="rbf", gamma="auto")


def _equally_many(
    first: Answers, second: Answers, seed: int, most: int | None
) -> tuple[Answers, Answers]:
    count = min(len(first.samples), len(second.samples))
    count = count if most is None else min(count, most)
    return _by_digest(first, seed, count), _by_digest(second, seed, count)


def _by_digest(found: Answers, seed: int = 0, count: int | None = None) -> Answers:
    """``count`` rows in the order of a digest of seed and id: the order given has no say."""
    drawn = sorted(
        found.samples, key=lambda sample: hashlib.sha256(f"{seed}:{sample}".encode()).digest()
    )
    return found.of_samples(drawn[:count])


def _checked(feature: Tensor) -> Numbers:
    """A feature as numbers (models, n, d)."""
    if not bool(feature.isfinite().all()):
        raise ExpungeError(
            "A membership attack got a feature that is NaN or infinite; finite numbers are "
            "expected. The model rules out a row's own class entirely (a score of -inf)."
        )
    numbers: Numbers = feature.double().numpy()
    return numbers


def _check_sets(sets: dict[str, Answers]) -> None:
    for (one, first), (other, second) in combinations(sets.items(), 2):
        if first.models != second.models:
            raise ExpungeError(
                f"A membership attack got the models {', '.join(first.models)} on {one} rows and "
                f"{', '.join(second.models)} on {other} rows; the same ones are expected."
            )
        if shared := sorted(set(first.samples).intersection(second.samples)):
            raise ExpungeError(
                f"A membership attack got the row {shared[0]!r} among the {one} and the {other} "
                "rows; sets without a common row are expected, each row with an id of its own."
            )
