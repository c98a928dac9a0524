"""The fused loops of the rules, compiled with numba: every byte of a state moves once.

Each loop equals its torch expression in ``kernels.py`` to the last bit (no fast-math, one rounding
per operation). The loops release the interpreter lock and run on the threads of the caller: numba's
own thread pool may not be entered by two threads at once, which a service would do. Divisions
follow IEEE (``error_model``), since a check for zero keeps the compiler from using vectors.

This module needs numba; ``kernels.py`` imports it and falls back to torch where that fails.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

Loop = Callable[..., None]
ZERO = np.float32(0.0)
ONE = np.float32(1.0)


def _compiled(loop: Loop) -> Loop:
    """Compile on the first call; kept on disk where numba finds a folder it may write to."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        fast: Loop = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # no writable folder for the cache
        fast = numba.njit(**options)(loop)
    return fast


def _counted_votes(values, factor, positive, negative, ups, downs):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        v = values[i] * factor
        positive[i] += v if v > ZERO else ZERO
        negative[i] += -v if v < ZERO else ZERO
        ups[i] += np.int16(v > ZERO)
        downs[i] += np.int16(v < ZERO)


def _counted_votes_at(values, factor, at, positive, negative, ups, downs):  # type: ignore[no-untyped-def]
    for k in range(values.shape[0]):
        i = at[k]
        v = values[k] * factor
        positive[i] += v if v > ZERO else ZERO
        negative[i] += -v if v < ZERO else ZERO
        ups[i] += np.int16(v > ZERO)
        downs[i] += np.int16(v < ZERO)


def _votes(values, factor, positive, negative):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        v = values[i] * factor
        positive[i] += v if v > ZERO else ZERO
        negative[i] += -v if v < ZERO else ZERO


def _votes_at(values, factor, at, positive, negative):  # type: ignore[no-untyped-def]
    for k in range(values.shape[0]):
        i = at[k]
        v = values[k] * factor
        positive[i] += v if v > ZERO else ZERO
        negative[i] += -v if v < ZERO else ZERO


def _votes_and_largest(values, factor, positive, negative, highest, lowest):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        v = values[i] * factor
        up = v if v > ZERO else ZERO
        down = -v if v < ZERO else ZERO
        positive[i] += up
        negative[i] += down
        highest[i] = up if up > highest[i] else highest[i]
        lowest[i] = down if down > lowest[i] else lowest[i]


def _votes_and_largest_at(values, factor, at, positive, negative, highest, lowest):  # type: ignore[no-untyped-def]
    for k in range(values.shape[0]):
        i = at[k]
        v = values[k] * factor
        up = v if v > ZERO else ZERO
        down = -v if v < ZERO else ZERO
        positive[i] += up
        negative[i] += down
        highest[i] = up if up > highest[i] else highest[i]
        lowest[i] = down if down > lowest[i] else lowest[i]


def _first(values, factor, written):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        written[i] = written[i] if written[i] != ZERO else values[i] * factor


def _first_at(values, factor, at, written):  # type: ignore[no-untyped-def]
    for k in range(values.shape[0]):
        i = at[k]
        written[i] = written[i] if written[i] != ZERO else values[k] * factor


def _majority_mean(out, positive, negative, ups, downs):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        up = positive[i]
        down = negative[i]
        elected = up if up > down else -down
        count = np.float32(ups[i]) if up > down else np.float32(downs[i])
        tie = up == down
        out[i] = (ZERO if tie else elected) / (ONE if tie else count)


def _majority_sum(out, positive, negative):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        up = positive[i]
        down = negative[i]
        elected = up if up > down else -down
        out[i] = ZERO if up == down else elected


def _majority_largest(out, positive, negative, highest, lowest):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        up = positive[i]
        down = negative[i]
        elected = highest[i] if up > down else -lowest[i]
        out[i] = ZERO if up == down else elected


def _unanimous_mean(out, positive, negative, ups, downs):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        agreed = (ups[i] == 0) != (downs[i] == 0)
        total = positive[i] - negative[i]
        count = np.float32(ups[i]) + np.float32(downs[i])
        out[i] = (total if agreed else ZERO) / (count if agreed else ONE)


counted_votes = _compiled(_counted_votes)
counted_votes_at = _compiled(_counted_votes_at)
votes = _compiled(_votes)
votes_at = _compiled(_votes_at)
votes_and_largest = _compiled(_votes_and_largest)
votes_and_largest_at = _compiled(_votes_and_largest_at)
first = _compiled(_first)
first_at = _compiled(_first_at)
majority_mean = _compiled(_majority_mean)
majority_sum = _compiled(_majority_sum)
majority_largest = _compiled(_majority_largest)
unanimous_mean = _compiled(_unanimous_mean)
