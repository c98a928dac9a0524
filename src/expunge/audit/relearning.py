"""How fast forgotten knowledge comes back under fine-tuning, beside the oracle's speed.

Definition: relearning speed of continual unlearning. The oracle never saw the forgotten data; a
model that relearns them in fewer steps than the oracle still holds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from expunge.errors import ExpungeError
from expunge.signals import Metric

RELEARNING_SPEED = Metric(
    "relearning speed", "higher", "steps to relearn over the oracle's; below 1: latent knowledge"
)


@dataclass(frozen=True)
class StepsToReach:
    """After how many steps a level was reached; ``steps`` is None if not within ``measured``."""

    steps: int | None
    measured: int

    def __str__(self) -> str:
        return f">{self.measured}" if self.steps is None else str(self.steps)


@dataclass(frozen=True)
class RelearningSpeed:
    """Steps of a model and of the oracle to one level, and their ratio.

    ``relation`` says how to read ``ratio``: ``=`` exact, ``<`` an upper bound (the oracle did not
    arrive), ``>`` a lower bound (the model did not arrive). ``ratio`` is None and ``relation``
    is ``unknown`` if neither arrived, or if the oracle stood there before any step.
    """

    level: float
    model: StepsToReach
    oracle: StepsToReach
    ratio: float | None
    relation: Literal["=", "<", ">", "unknown"]

    @classmethod
    def of(cls, level: float, model: StepsToReach, oracle: StepsToReach) -> Self:
        """The ratio of two numbers of steps, or the bound on it that they give."""
        ratio: float | None = None
        relation: Literal["=", "<", ">", "unknown"] = "unknown"
        if model.steps == 0 and oracle.steps == 0:
            ratio, relation = 1.0, "="
        elif model.steps is not None and oracle.steps:
            ratio, relation = model.steps / oracle.steps, "="
        elif model.steps == 0 and oracle.steps is None:
            ratio, relation = 0.0, "="
        elif model.steps is not None and oracle.steps is None and oracle.measured:
            ratio, relation = model.steps / oracle.measured, "<"
        elif model.steps is None and oracle.steps:
            ratio, relation = model.measured / oracle.steps, ">"
        return cls(level, model, oracle, ratio, relation)

    def __str__(self) -> str:
        if self.ratio is None:
            return "unknown"
        return f"{'' if self.relation == '=' else self.relation}{self.ratio:.2f}"


def steps_to_reach(curve: Sequence[float], level: float) -> StepsToReach:
    """The first step at which a curve stands at ``level`` or above.

    Args:
        curve: ``curve[k]`` is the performance after k relearning steps; ``curve[0]`` before any.
        level: the performance to reach.

    Raises:
        ExpungeError: the curve is empty or not finite.
    """
    values = np.asarray(curve, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite([*values, level]).all():
        raise ExpungeError(
            f"A relearning curve of shape {values.shape} and the level {level} were given; finite "
            "values are expected, the first of them before any step. Measure after every step."
        )
    reached = np.flatnonzero(values >= level)
    return StepsToReach(int(reached[0]) if len(reached) else None, len(values) - 1)


def relearning_speed(
    model: Sequence[float], oracle: Sequence[float], before: float, share: float = 0.9
) -> RelearningSpeed:
    """Steps until ``share`` of the performance before the request is back, over the oracle's.

    Args:
        model: performance of the unlearned model after 0, 1, 2 ... relearning steps.
        oracle: the same of the oracle, under the same relearning.
        before: performance on the request before it was served.
        share: of ``before`` that counts as relearned.

    Raises:
        ExpungeError: a curve is empty or not finite, the curves differ in length, or ``before`` is
            not positive.
    """
    if not before > 0 or not 0 < share <= 1:
        raise ExpungeError(
            f"Relearning speed got a performance before of {before} and a share of {share}; a "
            "positive number and a share in (0, 1] are expected."
        )
    check_equally_long("Relearning speed", model, oracle)
    level = share * before
    return RelearningSpeed.of(level, steps_to_reach(model, level), steps_to_reach(oracle, level))


def check_equally_long(what: str, model: Sequence[float], oracle: Sequence[float]) -> None:
    """Refuse two relearning curves of different lengths.

    Raises:
        ExpungeError: they differ in length.
    """
    if len(model) != len(oracle):
        raise ExpungeError(
            f"{what} got {len(model)} values of the model and {len(oracle)} of the oracle; both "
            "after the same steps are expected. Relearn both equally long."
        )
