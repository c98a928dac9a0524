"""The point of smallest norm in the convex hull of some vectors, from their inner products.

Wolfe (1976). Finding the nearest point in a polytope. The active-set steps are those of Lawson and
Hanson (1974). Solving Least Squares Problems.

With a = w / sum(w) in the simplex, ``w' G w + (sum(w) - 1)^2`` over w >= 0 has its minimum where
``a' G a`` has: for a fixed direction the best scale gives q / (1 + q) with q = a' G a, which grows
with q. So the point is that of a least-squares problem with w >= 0, whose matrix ``G + 1 1'`` is
better conditioned than G, and which the active-set method solves in finitely many steps.
"""

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-12

Array = NDArray[np.float64]


def min_norm_weights(gram: Array) -> Array:
    """Weights of the point of smallest norm; duplicates and collinear vectors are allowed.

    Args:
        gram: (T, T) inner products of T >= 1 vectors of unit norm.

    Returns:
        (T,) weights >= 0 that sum to one. Every vector has an inner product with the point of at
        least the square of its norm, up to about 1e-12.
    """
    matrix = gram + 1.0
    weights = np.zeros(len(gram))
    blocked: set[int] = set()
    for _ in range(100 + 10 * len(gram)):
        gain = 1.0 - matrix @ weights
        gain[weights > 0] = -np.inf
        gain[list(blocked)] = -np.inf
        entering = int(np.argmax(gain))
        if gain[entering] <= TOLERANCE:
            break
        moved = _minimised(matrix, weights, entering)
        if moved[entering] > 0:
            blocked.clear()
        else:  # its gain was rounding: look at the others
            blocked.add(entering)
        weights = moved
    share: Array = weights / weights.sum()
    return share


def _minimised(matrix: Array, weights: Array, entering: int) -> Array:
    """The minimum over the positive weights and one more, leaving out those that reach zero."""
    current = weights.copy()
    active = [*np.flatnonzero(weights > 0).tolist(), entering]
    while active:
        part = np.ix_(active, active)
        solution = np.linalg.lstsq(matrix[part], np.ones(len(active)), rcond=None)[0]
        if (solution > 0).all():
            current[:] = 0.0
            current[active] = solution
            break
        falling = solution <= 0
        held = current[active]
        steps = np.where(falling, held / np.where(falling, held - solution, 1.0), 1.0)
        step = np.nan_to_num(steps, nan=0.0).min()
        current[active] = np.maximum(held + step * (solution - held), 0.0)
        current[np.asarray(active)[falling & (steps <= step)]] = 0.0
        kept = [j for j in active if current[j] > 0 or (j == entering and solution[-1] > 0)]
        if len(kept) == len(active):
            break
        active = kept
    return current
