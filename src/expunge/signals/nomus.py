"""NoMUS: utility and a membership attack in one score.

Choi, Na (2023). Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial
Recognition Systems. Retraining is not its maximum: read the gap to the oracle beside it.
"""

from expunge.signals.metric import Metric
from expunge.signals.unlearning import check_share

NOMUS = Metric(
    "NoMUS",
    "higher",
    "mean of test accuracy and of 1 minus twice the distance of the loss MIA from a half",
)


def nomus(test_accuracy: float, attack_accuracy: float, utility: float = 0.5) -> float:
    """The score, in [0, 1].

    Args:
        test_accuracy: share of test rows answered rightly.
        attack_accuracy: of :func:`~expunge.signals.membership.cross_validated_mia` on the loss of
            forget rows against unseen ones. Tables print its distance from 0.5.
        utility: weight of the accuracy, 0.5 in the paper.

    Raises:
        ExpungeError: one of them is no share.
    """
    check_share("The test accuracy", test_accuracy)
    check_share("The attack's accuracy", attack_accuracy)
    check_share("The weight of utility", utility)
    return utility * test_accuracy + (1 - utility) * (1 - 2 * abs(attack_accuracy - 0.5))
