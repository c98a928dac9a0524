"""The accuracy family of unlearning: UA, RA, TA, their tug of war, and the time it took.

Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn. Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023).
Model Sparsity Can Simplify Machine Unlearning. The tug of war is from Zhao, Kurmanji, Bărbulescu,
Triantafillou, Triantafillou (2024). What makes unlearning hard and what to do about it. Papers
print percentages; all values here are shares.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.accuracy import accuracy
from expunge.signals.matrix import Signals
from expunge.signals.metric import Metric

UNLEARNING_ACCURACY = Metric(
    "unlearning accuracy (UA)",
    "closer to the oracle",
    "share of forget rows not answered with their own class",
    1,
    counts_wrong=True,
)
RETAIN_ACCURACY = Metric(
    "retain accuracy (RA)",
    "higher",
    "share of retain training rows answered with their own class",
    1,
)
TEST_ACCURACY = Metric(
    "test accuracy (TA)",
    "higher",
    "share of test rows, without those of a forgotten class, answered with their own class",
    1,
)
TUG_OF_WAR = Metric(
    "tug of war (ToW)",
    "higher",
    "product over forget, retain and test rows of 1 minus the distance to the oracle's accuracy",
)
AVERAGE_GAP = Metric(
    "average gap", "lower", "mean distance to the oracle in UA, RA, TA and a membership attack"
)
RUN_TIME = Metric(
    "run-time efficiency (RTE)",
    "lower",
    "wall seconds of the unlearning; the oracle's are those of a training",
)


def unlearning_accuracy(forget: Signals) -> Tensor:
    """1 minus the accuracy on the forget rows, (models,) float64."""
    return 1.0 - accuracy(forget)


@dataclass(frozen=True)
class Accuracies:
    """One model's accuracies on forget, retain and test rows, as shares.

    With the score of a membership attack in place of ``forget`` (``dataclasses.replace``),
    :func:`tug_of_war` gives ToW-MIA.

    Raises:
        ExpungeError: one is no share.
    """

    forget: float
    retain: float
    test: float

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            check_share(f"The accuracy on {name} rows", share)


def tug_of_war(found: Accuracies, oracle: Accuracies) -> float:
    """ToW of two models, in [0, 1]; 1 where all three accuracies agree, and symmetric."""
    return (
        (1 - abs(found.forget - oracle.forget))
        * (1 - abs(found.retain - oracle.retain))
        * (1 - abs(found.test - oracle.test))
    )


def check_share(what: str, value: float) -> None:
    """Refuse what is not a share.

    Raises:
        ExpungeError: it is not a finite number in [0, 1].
    """
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ExpungeError(
            f"{what} is {value:g}; a share from 0 to 1 is expected. Divide percentages by 100."
        )
