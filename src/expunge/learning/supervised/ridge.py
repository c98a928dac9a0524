"""Ridge regression that rows are added to and taken from: sums, and two ways from sums to weights.

Tang, Zhuang, Fang, Li, Han, Huang, Fan, Wang, Zhu, Zhang, Song, Liu (2025). ACU: Analytic Continual
Unlearning for Efficient and Exact Forgetting with Privacy Preservation. The additive recursion is
that of analytic continual learning (Zhuang et al. 2022, ACIL); the removing one is the same with
the other sign (Woodbury).

With the features F (n, d) and one-hot targets Y (n, C) of all rows that are there, A = F^T F and
b = F^T Y are sums over the rows, and the weights that minimise |F W - Y|^2 + ridge |W|^2 are
W = (A + ridge I)^-1 b. Rows X, T come (s = 1) or go (s = -1) by A + s X^T X and b + s X^T T.

:class:`Resolve` solves for W from the sums each time, in O(d^3 / 3). :class:`Recursion` keeps
R = (A + ridge I)^-1 beside them and moves both, in O(d^2 m) for m rows:

    S = I + s X R X^T = L L^T,   U = L^-1 X R,
    R' = R - s U^T U,   W' = W + s U^T L^-1 (T - X W).

Where rows go, the eigenvalues of S are 1 minus their leverages. A small one means that these rows
alone hold a direction; the step would divide by it and keep the rounding error for ever.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import torch
from scipy.linalg.lapack import dpocon, spocon
from torch import Tensor

from expunge.errors import ExpungeError

Sign = Literal[1, -1]
"""1: rows come; -1: rows go."""

CHUNK = 256
"""Rows of one step of the recursion at most."""

Why = Literal["", "leverage", "drift", "turn", "rows"]
"""Why the recursion solved anew: see :class:`Recursion`. Empty where it did not."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Features (m, d) and one-hot targets (m, C) of m rows."""

    features: Tensor
    targets: Tensor

    def split(self, most: int) -> Iterator["Chunk"]:
        """The same rows, ``most`` at a time."""
        for start in range(0, len(self.features), most):
            part = slice(start, start + most)
            yield Chunk(self.features[part], self.targets[part])


@dataclass(frozen=True, eq=False)
class Sums:
    """What is kept of all rows together.

    Args:
        gram: (d, d), F^T F.
        cross: (d, C), F^T Y.
        counts: int64 (C,), the rows of each class.
    """

    gram: Tensor
    cross: Tensor
    counts: Tensor

    @classmethod
    def none(cls, width: int, classes: int, dtype: torch.dtype = torch.float64) -> "Sums":
        """No rows."""
        return cls(
            torch.zeros(width, width, dtype=dtype),
            torch.zeros(width, classes, dtype=dtype),
            torch.zeros(classes, dtype=torch.int64),
        )

    def moved(self, chunk: Chunk, sign: Sign) -> "Sums":
        """The sums with rows, or without them."""
        features, targets = chunk.features, chunk.targets
        return Sums(
            torch.addmm(self.gram, features.T, features, alpha=sign),
            torch.addmm(self.cross, features.T, targets, alpha=sign),
            self.counts + sign * targets.sum(0).long(),
        )

    def regularised(self, ridge: float) -> Tensor:
        """A + ridge I, (d, d)."""
        whole = self.gram.clone()
        whole.diagonal().add_(ridge)
        return whole


@dataclass(frozen=True, eq=False)
class Solved:
    """Sums and the weights that they lead to.

    Args:
        sums: of the rows that are there.
        head: W, (d, C).
        inverse: R, (d, d), where the solver keeps it.
        since: requests that the recursion answered since it was solved anew.
        why: why the last request was solved anew where the recursion could have answered it.
        drift: of the recursion: estimated distance of ``head`` to the solution of the sums, as a
            share of its norm; None where it was solved anew.
    """

    sums: Sums
    head: Tensor
    inverse: Tensor | None = None
    since: int = 0
    why: Why = ""
    drift: float | None = None

    def tidied(self) -> "Solved":
        """A class without rows has a column of zeros, as in a training without them."""
        return replace(self, head=self.head * (self.sums.counts > 0))


class Solver(Protocol):
    """A way from sums to weights, and from there to those of other rows."""

    @property
    def name(self) -> str:
        """Under which a record names it."""
        ...

    def anew(self, sums: Sums, ridge: float) -> Solved:
        """The weights of these sums.

        Raises:
            ExpungeError: they cannot be told to the precision at hand.
        """
        ...

    def moved(self, solved: Solved, ridge: float, chunks: Iterable[Chunk], sign: Sign) -> Solved:
        """The weights after the rows of one request, all of which come, or go.

        Raises:
            ExpungeError: they cannot be told to the precision at hand.
        """
        ...


@dataclass(frozen=True)
class Resolve:
    """Solves the sums each time; nothing is carried on but them.

    Args:
        worst: condition number of A + ridge I (in the 1-norm) up to which weights are told.
    """

    name: ClassVar[str] = "resolve"

    worst: float = 1e12

    def __post_init__(self) -> None:
        if not self.worst >= 1:
            raise ExpungeError(
                f"A ridge head is to be solved up to a condition number of at most {self.worst:g}, "
                "which none has; at least 1 is expected."
            )

    def anew(self, sums: Sums, ridge: float) -> Solved:
        """By a Cholesky factorisation."""
        lower = _factor(sums, ridge, self.worst)
        return Solved(sums, torch.cholesky_solve(sums.cross, lower)).tidied()

    def moved(self, solved: Solved, ridge: float, chunks: Iterable[Chunk], sign: Sign) -> Solved:
        """From the moved sums."""
        sums = solved.sums
        for chunk in chunks:
            sums = sums.moved(chunk, sign)
        return self.anew(sums, ridge)


@dataclass(frozen=True)
class Recursion:
    """Moves weights and inverse by the rows of a request, and solves anew where that is not safe.

    Args:
        least: smallest eigenvalue of S for a step ("leverage" where it is below).
        drift: largest estimated distance of W to the solution of the sums, as a share of its norm,
            that is accepted ("drift").
        every: requests after which it is solved anew ("turn").
        worst: as in :class:`Resolve`, whenever it is solved anew.

    What is watched is the residual of W, seen through R; R itself is never held against the
    inverse of the sums. An R that has drifted shows in the W of the requests after.

    A request of at least as many rows as there are features is solved anew too, which is cheaper
    ("rows"). The bound of the leverage is the card's; the others are ours.

    Raises:
        ExpungeError: a bound that nothing can keep to.
    """

    name: ClassVar[str] = "recursion"

    least: float = 1e-8
    drift: float = 1e-10
    every: int = 1000
    worst: float = 1e12

    def __post_init__(self) -> None:
        if not (self.least >= 0 and self.drift >= 0 and self.every >= 0 and self.worst >= 1):
            raise ExpungeError(
                f"The recursion got the bounds {self.least:g} for eigenvalues, {self.drift:g} for "
                f"the drift, {self.every} for requests and {self.worst:g} for the condition "
                "number; at least 0 for each and at least 1 for the condition number are expected."
            )

    def anew(self, sums: Sums, ridge: float) -> Solved:
        """The inverse by a Cholesky factorisation, and the weights from the same."""
        lower = _factor(sums, ridge, self.worst)
        head = torch.cholesky_solve(sums.cross, lower)
        return Solved(sums, head, torch.cholesky_inverse(lower)).tidied()

    def moved(self, solved: Solved, ridge: float, chunks: Iterable[Chunk], sign: Sign) -> Solved:
        """By steps of at most :data:`CHUNK` rows; the first that a guard refuses ends them."""
        assert solved.inverse is not None  # anew() gave it
        sums, head, inverse = solved.sums, solved.head, solved.inverse
        why: Why = "turn" if solved.since >= self.every else ""
        rows = 0
        for chunk in chunks:
            sums = sums.moved(chunk, sign)
            rows += len(chunk.features)
            if not why and rows >= len(inverse):
                why = "rows"
            for part in () if why else chunk.split(CHUNK):
                after = step(inverse, head, part, sign, self.least)
                if after is None:
                    why = "leverage"
                    break
                inverse, head = after
        if not why:
            after_all = Solved(sums, head, inverse, solved.since + 1).tidied()
            drift = _drift(after_all, ridge)
            if drift <= self.drift:
                return replace(after_all, drift=drift)
            why = "drift"
        return replace(self.anew(sums, ridge), why=why)


def step(
    inverse: Tensor, head: Tensor, rows: Chunk, sign: Sign, least: float = 0.0
) -> tuple[Tensor, Tensor] | None:
    """One step of the recursion.

    Args:
        inverse: R, (d, d), symmetric.
        head: W, (d, C).
        rows: that come or go.
        sign: 1 or -1.
        least: smallest eigenvalue of S that is accepted.

    Returns:
        R', symmetric in every bit, and W'; None where S has a smaller eigenvalue, or none that is
        positive.
    """
    features, targets = rows.features, rows.targets
    seen = features @ inverse  # (m, d)
    inner = torch.addmm(torch.eye(len(features), dtype=inverse.dtype), seen, features.T, alpha=sign)
    inner = (inner + inner.T) / 2
    if not torch.isfinite(inner).all() or float(torch.linalg.eigvalsh(inner)[0]) < least:
        return None
    lower, failed = torch.linalg.cholesky_ex(inner)
    if int(failed):
        return None
    turned = torch.linalg.solve_triangular(lower, seen, upper=False)  # (m, d)
    missed = torch.linalg.solve_triangular(lower, targets - features @ head, upper=False)
    moved = torch.addmm(inverse, turned.T, turned, alpha=-sign)
    return (
        (moved + moved.T) / 2,  # products and rounding would tilt it further at every request
        torch.addmm(head, turned.T, missed, alpha=sign),
    )


SOLVERS: dict[str, type[Resolve] | type[Recursion]] = {
    solver.name: solver for solver in (Resolve, Recursion)
}
"""By the name that a record holds."""


def _drift(solved: Solved, ridge: float) -> float:
    """|R (b - (A + ridge I) W)| / |W|: what one step of iterative refinement would correct."""
    assert solved.inverse is not None
    left = solved.sums.cross - solved.sums.gram @ solved.head - ridge * solved.head
    size = float(solved.head.norm())
    correction = float((solved.inverse @ left).norm())
    return correction / size if size else correction


def _factor(sums: Sums, ridge: float, worst: float) -> Tensor:
    """The Cholesky factor (d, d) of A + ridge I, lower.

    Raises:
        ExpungeError: there is none, or the condition number is estimated to be above ``worst``.
    """
    whole = sums.regularised(ridge)
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(whole)
    estimate = dpocon if whole.dtype == torch.float64 else spocon
    if int(failed):
        raise ExpungeError(
            f"With a ridge of {ridge:g} the sums of {int(sums.counts.sum())} rows have no "
            "solution: the ridge is lost in rounding, or, where rows were taken away, some of them "
            "were never in the sums. Nothing was changed; train the head with a larger ridge, or "
            "name rows that are there."
        )
    share, _ = estimate(lower.T.numpy(), float(whole.abs().sum(0).max()), uplo="U")
    if share * worst < 1:
        raise ExpungeError(
            f"The weights cannot be told from the {int(sums.counts.sum())} rows that would be "
            f"there: with a ridge of {ridge:g} their {len(whole)} features have a condition number "
            f"of about {1 / max(share, 1e-300):.1g}, and {worst:g} is allowed. Nothing was "
            "changed; train the head with a larger ridge."
        )
    return lower
