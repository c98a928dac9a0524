"""Scalars of continual learning on the matrix of scores.

``R[i, j]`` is the score on task j after task i was learned. Average accuracy, backward and forward
transfer: Lopez-Paz, Ranzato (2017). Gradient Episodic Memory for Continual Learning. Forgetting:
Chaudhry, Dokania, Ajanthan, Torr (2018). Riemannian Walk for Incremental Learning.
"""

import numpy as np
import numpy.typing as npt

from expunge.errors import ExpungeError
from expunge.signals import Metric

AVERAGE_ACCURACY = Metric("average accuracy", "higher", "mean final score over all tasks")
LEARNING_ACCURACY = Metric("learning accuracy", "higher", "mean score right after learning a task")
BACKWARD_TRANSFER = Metric("backward transfer", "higher", "mean change since a task was learned")
FORGETTING = Metric("forgetting", "lower", "mean loss since a task's best score")
FORWARD_TRANSFER = Metric("forward transfer", "higher", "gain on a task before it is learned")


def average_accuracy(scores: npt.ArrayLike) -> float:
    """``ACC = 1/T sum_j R[T, j]`` of scores (T, T)."""
    return float(_checked(scores, least=1)[-1].mean())


def learning_accuracy(scores: npt.ArrayLike) -> float:
    """``LA = 1/T sum_j R[j, j]`` of scores (T, T)."""
    return float(_checked(scores, least=1).diagonal().mean())


def backward_transfer(scores: npt.ArrayLike) -> float:
    """``BWT = 1/(T-1) sum_{j<T} (R[T, j] - R[j, j])`` of scores (T, T), T at least 2."""
    R = _checked(scores, least=2)
    return float((R[-1] - R.diagonal())[:-1].mean())


def forgetting(scores: npt.ArrayLike) -> float:
    """``F = 1/(T-1) sum_{j<T} (max_{i in j..T-1} R[i, j] - R[T, j])`` of scores (T, T), T >= 2.

    Variants differ: some take the maximum over all steps, some report the negated backward
    transfer under this name.
    """
    R = _checked(scores, least=2)
    return float(np.mean([R[j:-1, j].max() - R[-1, j] for j in range(len(R) - 1)]))


def forward_transfer(scores: npt.ArrayLike, before: npt.ArrayLike) -> float:
    """``FWT = 1/(T-1) sum_{j>=2} (R[j-1, j] - b_j)`` of scores (T, T), T at least 2.

    Args:
        scores: (T, T), cells above the diagonal included.
        before: (T,) scores ``b`` of the untrained model.
    """
    R = _checked(scores, least=2)
    b = np.asarray(before, dtype=np.float64)
    if b.shape != (len(R),) or not np.isfinite(b).all():
        raise ExpungeError(
            f"Forward transfer got scores before learning of shape {b.shape} for {len(R)} tasks; "
            f"finite values of shape ({len(R)},) are expected."
        )
    return float((R.diagonal(offset=1) - b[1:]).mean())


def _checked(scores: npt.ArrayLike, least: int) -> npt.NDArray[np.float64]:
    R = np.asarray(scores, dtype=np.float64)
    if R.ndim != 2 or R.shape[0] != R.shape[1] or len(R) < least or not np.isfinite(R).all():
        raise ExpungeError(
            f"A continual-learning metric got scores of shape {R.shape}; a square matrix of finite "
            f"values over at least {least} tasks is expected. Measure every task after every task."
        )
    return R
