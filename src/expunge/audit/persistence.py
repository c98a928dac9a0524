"""The persistence matrix: every request measured again after every later one.

``R[t, j]`` is the performance on request j after step t; step t serves request t. The matrix is
full. Below the diagonal stand requests that were served earlier (what comes back is re-emergence),
above it requests that nobody has made yet (what is lost there is damage).

Definitions: persistence matrix, signed re-emergence, re-emergence rate, persistence and half-life
of continual unlearning. ``avg_score`` and ``avg_delta`` are those of Lin, Dong, Chen, Zhang, Xu,
Chen (2026). CATA: Continual Machine Unlearning via Conflict-Averse Task Arithmetic.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from expunge.audit.figures import PersistenceFigure, ReEmergenceRow
from expunge.errors import ExpungeError
from expunge.signals import Metric, Signals, accuracy

Array = npt.NDArray[np.float64]

RE_EMERGENCE = Metric(
    "re-emergence", "lower", "largest later value minus the value at the request's own step"
)
RE_EMERGENCE_RATE = Metric(
    "re-emergence rate",
    "lower",
    "share of later measurements more than two oracle standard deviations above the own step's",
)
PERSISTENCE = Metric(
    "persistence", "higher", "1: stays like the oracle; 0: as if never unlearned; below 0: worse"
)
IMMEDIATE_EFFECTIVENESS = Metric(
    "immediate effectiveness", "lower", "distance from the oracle right after the request's step"
)
HALF_LIFE = Metric("half-life", "higher", "steps until half of the gap to the oracle is back")
DAMAGE = Metric("damage", "lower", "performance lost on requests that nobody has made yet")
AVG_DELTA = Metric("Avg. Delta", "lower", "mean absolute change since each request's own step")
AVG_SCORE = Metric("Avg. Score", "higher", "mean normalised score over all columns, in percent")


@dataclass(frozen=True, eq=False)
class PersistenceMatrix:
    """Performance on T requests before the first and after each of T steps.

    Args:
        requests: T names, in the order in which they were served.
        before: (T,) performance before any request.
        after: (T, T) performance on request j (column) after step t (row), all cells.
        oracle: performance of the model retrained without the forgotten data: (T,) when one final
            oracle is the reference for every step, (T, T) when each step has its own.

    Raises:
        ExpungeError: no request, a repeated name, shapes that do not fit, or a value not finite.
    """

    requests: tuple[str, ...]
    before: Array
    after: Array
    oracle: Array | None = field(default=None)

    def __post_init__(self) -> None:
        size = len(self.requests)
        if size == 0 or len(set(self.requests)) != size:
            raise ExpungeError(
                f"A persistence matrix got the requests {list(self.requests)}; at least one, each "
                "with its own name, is expected."
            )
        object.__setattr__(self, "before", _stored("before", self.before, [(size,)]))
        object.__setattr__(self, "after", _stored("after", self.after, [(size, size)]))
        if self.oracle is not None:
            fitting = _stored("oracle", self.oracle, [(size,), (size, size)])
            object.__setattr__(self, "oracle", fitting)

    @classmethod
    def from_signals(
        cls,
        signals: Signals,
        requests: Mapping[str, Sequence[str]],
        *,
        before: str,
        steps: Sequence[str],
        oracle: str | None = None,
        measure: Callable[[Signals], Tensor] = accuracy,
    ) -> Self:
        """The matrix of a history whose models were asked for all requests.

        Args:
            signals: models by samples, with one row per name below.
            requests: the subjects of each request, requests in the order served.
            before: name of the model before any request.
            steps: names of the T models after each step.
            oracle: name of the final oracle, where one exists.
            measure: signals -> (models,), the accuracy by default.

        Raises:
            ExpungeError: a model or subject is unknown, or there is not one step per request.
        """
        rows = signals.of_models([before, *steps, *([oracle] if oracle is not None else [])])
        columns = [measure(rows.of_subjects(names)).double().numpy() for names in requests.values()]
        table = np.stack(columns, axis=1)
        return cls(
            requests=tuple(requests),
            before=table[0],
            after=table[1 : len(steps) + 1],
            oracle=table[-1] if oracle is not None else None,
        )

    @property
    def size(self) -> int:
        """T, the number of requests and of steps."""
        return len(self.requests)

    @property
    def diagonal(self) -> Array:
        """(T,) performance on each request right after its own step."""
        return np.array(self.after.diagonal(), dtype=np.float64)

    @property
    def final(self) -> Array:
        """(T,) performance on each request after the last step."""
        return np.array(self.after[-1], dtype=np.float64)

    @property
    def just_before(self) -> Array:
        """(T,) performance on each request one step before it was served."""
        return np.concatenate([self.before[:1], self.after.diagonal(offset=1)])

    @property
    def reference(self) -> Array:
        """(T, T) the oracle's performance, repeated over the steps where there is one oracle.

        Raises:
            ExpungeError: the matrix has no oracle.
        """
        if self.oracle is None:
            raise ExpungeError(
                "This persistence matrix has no oracle, and the gap to it was asked for. Retrain "
                "one without the forgotten data, or read drift() and re_emergence(), which need "
                "none."
            )
        return np.broadcast_to(self.oracle, (self.size, self.size))

    def drift(self) -> Array:
        """(T, T) ``R[t, j] - R[j, j]`` below the diagonal, unclipped; NaN elsewhere.

        Positive: the request came back. Negative: it was forgotten further.
        """
        return np.where(_later(self.size), self.after - self.diagonal, np.nan)

    def gap(self) -> Array:
        """(T, T) signed gap ``S = R - oracle``.

        Positive is under-forgotten; negative is over-forgotten, which is a trace as well.
        """
        return self.after - self.reference

    def gap_before(self) -> Array:
        """(T,) ``S0_q``: signed gap to the oracle one step before request q was served."""
        return self.just_before - self.reference.diagonal()

    def immediate_effectiveness(self) -> Array:
        """(T,) ``E_q = |S[q, q]|``: distance from the oracle right after the own step."""
        return np.abs(self.gap().diagonal())

    def re_emergence(self) -> Array:
        """(T - 1,) ``RE_q = max_{i > q} S[i, q] - S[q, q]``, unclipped; the last request has none.

        Without an oracle, performance stands for the gap: a reference that is the same at every
        step cancels.
        """
        values = self.after if self.oracle is None else self.gap()
        return np.array(
            [values[q + 1 :, q].max() - values[q, q] for q in range(self.size - 1)],
            dtype=np.float64,
        )

    def re_emergence_rate(self, oracle_sd: float | npt.ArrayLike) -> float | None:
        """Share of the cells below the diagonal with ``S[i, q] > S[q, q] + 2 s_or``.

        Args:
            oracle_sd: standard deviation over oracle seeds, one number or (T,).

        Returns:
            A share, or None for a single request, which nothing follows.
        """
        later = _later(self.size)
        if not later.any():
            return None
        spread = np.broadcast_to(np.asarray(oracle_sd, dtype=np.float64), (self.size,))
        if not (np.isfinite(spread).all() and (spread >= 0).all()):
            raise ExpungeError(
                f"The re-emergence rate got the oracle spread {spread.tolist()}; finite numbers of "
                "at least 0 are expected. Measure it over several oracle seeds."
            )
        gap = self.gap()
        return float((gap > gap.diagonal() + 2 * spread)[later].mean())

    def persistence_by_request(self) -> tuple[float | None, ...]:
        """``1 - mean_{i >= q} |S[i, q]| / |S0_q|`` for each request.

        None where the model stood at the oracle's level before the request: there is no gap that a
        share could be taken of.
        """
        gap, start = np.abs(self.gap()), np.abs(self.gap_before())
        return tuple(
            float(1 - (gap[q:, q] / start[q]).mean()) if start[q] > 0 else None
            for q in range(self.size)
        )

    def persistence(self) -> float | None:
        """``PE = 1 - mean_{q, i >= q} |S[i, q]| / |S0_q|``, the mean over all cells.

        Requests with ``S0_q = 0`` are left out; None if that leaves none.
        """
        gap, start = np.abs(self.gap()), np.abs(self.gap_before())
        cells = [gap[q:, q] / start[q] for q in range(self.size) if start[q] > 0]
        return float(1 - np.concatenate(cells).mean()) if cells else None

    def half_life(self) -> tuple[int | None, ...]:
        """First ``i - q`` with ``S[i, q] > S0_q / 2`` for each request, in steps.

        0 says that the request's own step did not halve the gap. None says that half of the gap
        has not come back by the last step, or that no positive gap stood there before.
        """
        gap, start = self.gap(), self.gap_before()
        lives: list[int | None] = []
        for q in range(self.size):
            back = np.flatnonzero(gap[q:, q] > start[q] / 2) if start[q] > 0 else np.array([])
            lives.append(int(back[0]) if len(back) else None)
        return tuple(lives)

    def damage(self) -> Array:
        """(T, T) ``before[j] - R[t, j]`` above the diagonal (t < j); NaN elsewhere.

        What serving the first requests cost those that nobody has asked to remove yet; positive is
        lost.
        """
        return np.where(_later(self.size).T, self.before - self.after, np.nan)

    def mean_damage(self) -> float | None:
        """Mean of :meth:`damage` over its cells; None for a single request."""
        return float(np.nanmean(self.damage())) if self.size > 1 else None

    def lower_mean(self) -> float:
        """Mean performance on and below the diagonal: all that should have been forgotten."""
        return float(self.after[np.tril_indices(self.size)].mean())

    def avg_delta(self) -> float:
        """CATA's Avg. Delta: ``mean_j |R[T, j] - R[j, j]|``, in the unit of the matrix.

        The absolute value counts a request that is forgotten further as drift too, and the last
        request enters with 0.
        """
        return float(np.abs(self.final - self.diagonal).mean())

    def figure(self, configuration: str) -> PersistenceFigure:
        """The matrix as plain values for the report."""
        shown: PersistenceFigure = {
            "name": configuration,
            "requests": list(self.requests),
            "before": self.before.tolist(),
            "after": self.after.tolist(),
        }
        if self.oracle is not None and self.oracle.ndim == 1:
            shown["oracle"] = self.oracle.tolist()
        return shown

    def re_emergence_row(self, configuration: str) -> ReEmergenceRow:
        """Drift at the last step, re-emergence and damage as plain values for the report."""
        returned = self.re_emergence()
        return {
            "name": configuration,
            "drift": (self.final - self.diagonal).tolist(),
            "re_emergence": [*returned.tolist(), None],
            "re_emergence_mean": float(returned.mean()) if len(returned) else None,
            "re_emergence_max": float(returned.max()) if len(returned) else None,
            "avg_delta": self.avg_delta(),
            "persistence": None if self.oracle is None else self.persistence(),
            "damage": self.mean_damage(),
        }


def avg_score(
    forgotten_before: Sequence[float],
    forgotten_after: Sequence[float],
    kept_before: Sequence[float],
    kept_after: Sequence[float],
) -> float:
    """CATA's Avg. Score in percent: the plain mean over all columns.

    A column scores ``S = 100 min(after / before, 1)``; a forgotten class enters as ``100 - S``,
    the kept columns (retained classes, all classes, unseen sets) as ``S``.

    Args:
        forgotten_before: accuracy on each forgotten class before any request.
        forgotten_after: the same after the last step.
        kept_before: accuracy of each kept column before any request, in the same unit.
        kept_after: the same after the last step.

    Raises:
        ExpungeError: lengths differ, nothing is given, or an accuracy before is not positive.
    """
    if len(forgotten_before) != len(forgotten_after) or len(kept_before) != len(kept_after):
        raise ExpungeError(
            f"Avg. Score got {len(forgotten_before)} and {len(forgotten_after)} forgotten, "
            f"{len(kept_before)} and {len(kept_after)} kept columns before and after; equal "
            "numbers are expected."
        )
    before = np.asarray([*forgotten_before, *kept_before], dtype=np.float64)
    after = np.asarray([*forgotten_after, *kept_after], dtype=np.float64)
    if not len(before) or not (before > 0).all() or not (after >= 0).all():
        raise ExpungeError(
            f"Avg. Score got accuracies {before.tolist()} before and {after.tolist()} after; "
            "positive ones before are expected, since scores are shares of them. Leave out columns "
            "that the original model does not answer."
        )
    scores = 100 * np.minimum(after / before, 1)
    count = len(forgotten_before)
    return float(np.concatenate([100 - scores[:count], scores[count:]]).mean())


def order_sensitivity(
    matrices: Sequence[PersistenceMatrix],
    measure: Callable[[PersistenceMatrix], float] = lambda matrix: float(matrix.final.mean()),
) -> float:
    """Standard deviation (n - 1) of a final measure over orders of the same requests.

    Exact methods give 0. The measure is the mean final performance by default.

    Raises:
        ExpungeError: fewer than two matrices, or matrices over different requests.
    """
    if len(matrices) < 2 or len({frozenset(m.requests) for m in matrices}) != 1:
        raise ExpungeError(
            f"Order sensitivity got {len(matrices)} matrices over "
            f"{len({frozenset(m.requests) for m in matrices})} sets of requests; at least two "
            "orders of one set are expected."
        )
    return float(np.std([measure(matrix) for matrix in matrices], ddof=1))


def _later(size: int) -> npt.NDArray[np.bool_]:
    """(T, T) true below the diagonal: steps after a request's own."""
    return np.tri(size, k=-1, dtype=np.bool_)


def _stored(name: str, values: npt.ArrayLike, shapes: list[tuple[int, ...]]) -> Array:
    """A read-only float64 copy of ``values`` if it has one of ``shapes`` and is finite."""
    array = np.array(values, dtype=np.float64)
    if array.shape not in shapes or not np.isfinite(array).all():
        raise ExpungeError(
            f"A persistence matrix got {name!r} of shape {array.shape}"
            f"{'' if np.isfinite(array).all() else ' with NaN or infinite values'}; finite values "
            f"of shape {' or '.join(str(s) for s in shapes)} are expected. Measure every request "
            "after every step."
        )
    array.setflags(write=False)
    return array
