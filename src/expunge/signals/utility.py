"""Model utility of a language model: the harmonic mean of nine numbers on what is to be kept.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs.
"""

import math
from collections.abc import Mapping, Sequence

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

MODEL_UTILITY = Metric(
    "model utility",
    "higher",
    "harmonic mean of probability, ROUGE and truth ratio on retain, real authors and world facts",
)

SETS = ("retain", "real authors", "world facts")
MEASURES = ("probability", "ROUGE", "truth ratio")


def harmonic_mean(values: Sequence[float]) -> float:
    """Harmonic mean of shares; 0 where one of them is 0.

    Raises:
        ExpungeError: there is none, or one is negative or not finite.
    """
    if not values or any(not math.isfinite(value) or value < 0 for value in values):
        raise ExpungeError(
            f"A harmonic mean got {', '.join(f'{value:g}' for value in values) or 'nothing'}; "
            "finite numbers from 0 on, at least one, are expected."
        )
    if min(values) == 0:
        return 0.0
    return len(values) / sum(1 / value for value in values)


def model_utility(of_sets: Mapping[str, Mapping[str, float]]) -> float:
    """The harmonic mean of the nine.

    Args:
        of_sets: for each of :data:`SETS` the numbers of :data:`MEASURES`.

    Raises:
        ExpungeError: one is missing.
    """
    lacking = [
        f"{measure} on {name}"
        for name in SETS
        for measure in MEASURES
        if measure not in of_sets.get(name, {})
    ]
    if lacking:
        raise ExpungeError(f"Model utility is of nine numbers; {', '.join(lacking)} is missing.")
    return harmonic_mean([of_sets[name][measure] for name in SETS for measure in MEASURES])
