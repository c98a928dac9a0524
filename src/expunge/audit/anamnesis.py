"""The anamnesis index: how long a model takes to relearn what it forgot, in oracles' times.

Chundawat, Tarun, Mandal, Kankanhalli (2023). Zero-Shot Machine Unlearning; as used by Tarun,
Chundawat, Mandal, Kankanhalli (2023). Deep Regression Unlearning. It differs from
:func:`~expunge.audit.relearning.relearning_speed` in its level, a small margin from the original's
performance, and in counting at least one step.
"""

from collections.abc import Sequence

from expunge.audit.relearning import (
    RelearningSpeed,
    StepsToReach,
    check_equally_long,
    steps_to_reach,
)
from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

ANAMNESIS_INDEX = Metric(
    "anamnesis index (AIN)",
    "closer to the oracle",
    "steps to relearn the forget rows over the oracle's: 1 is the oracle's, below it knowledge is "
    "left, far above it the forgetting shows",
)


def anamnesis_index(
    model: Sequence[float],
    oracle: Sequence[float],
    original: float,
    metric: Metric,
    margin: float = 0.05,
) -> RelearningSpeed:
    """Relearn time of a model over the oracle's; 1 for the oracle itself.

    The level is ``(1 - margin)`` times the original's performance, or ``(1 + margin)`` times its
    error where lower values are better. A relearn time is at least one step, so the original's
    index is one over the oracle's time. Time alone is ``found.model``.

    Args:
        model: performance on the forget rows after 0, 1, 2 ... steps on all training rows, as
            :func:`~expunge.attacks.relearning.relearning_curve` measures it.
        oracle: the same of the oracle, under the same relearning.
        original: performance on the forget rows before unlearning.
        metric: what is measured; its direction says whether it is an error.
        margin: share of the original's performance.

    Raises:
        ExpungeError: a curve is empty or not finite, the curves differ in length, ``original`` is
            not positive, or the margin is no share.
    """
    if not original > 0 or not 0 <= margin < 1:
        raise ExpungeError(
            f"The anamnesis index got the original's performance {original:g} and a margin of "
            f"{margin:g}; a positive number and a share in [0, 1) are expected."
        )
    check_equally_long("The anamnesis index", model, oracle)
    sign = -1.0 if metric.direction == "lower" else 1.0
    level = sign * original * (1 - sign * margin)
    own, reference = (
        _relearn_time([sign * value for value in curve], level) for curve in (model, oracle)
    )
    return RelearningSpeed.of(sign * level, own, reference)


def counted_to_the_end(found: RelearningSpeed) -> float:
    """The index or the bound on it, and 1 where neither has relearned: as where every curve that
    does not arrive counts with all its steps, which is how the papers' code counts."""
    return 1.0 if found.ratio is None else found.ratio


def _relearn_time(curve: Sequence[float], level: float) -> StepsToReach:
    found = steps_to_reach(curve, level)
    return StepsToReach(None if found.steps is None else max(1, found.steps), found.measured)
