"""Certified removal: a Newton step on a convex head whose training noise covers what it leaves.

Guo, Goldstein, Hannun, van der Maaten (2020). Certified Data Removal from Machine Learning Models
(Theorem 3 and Corollary 1, loss perturbation).

With the head w at the minimum of L_b over the rows before (learning/supervised/convex_head.py), the
rows that go contribute m ridge w + sum grad loss = Delta to its gradient, and the step is

    w' = w + H^-1 Delta,   H the second derivatives of L over the retained rows at w.

The gradient of L_b over the retained rows at w' then has at most the norm
steepest / 2 |X| max_i |x_i^T z| |X z| with z = H^-1 Delta (the integral form of the mean value
theorem halves the paper's bound, and max_i |x_i^T z| <= |z| needs no features of norm 1). Norms of
classes add in squares, those of requests add up, and so long as their sum is at most
noise epsilon / c, with c = sqrt(2 log(1.5 / delta)), the head is (epsilon, delta)-indistinguishable
from one trained without the rows. A removal that would spend more is refused.

What is certified is the head on FIXED features. Whatever lies below the last linear layer still
holds what it learned from the rows, unless it was trained on other data. As in the paper, requests
are taken to be made without knowledge of the noise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.changes.kinds import Replacement
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits
from expunge.learning.supervised.convex_head import (
    LOSSES,
    ConvexHead,
    ConvexLoss,
    Rows,
    newton,
)
from expunge.learning.supervised.last_layer import check_head, with_head
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import Range
from expunge.problem import Access, Problem
from expunge.recipe import Record, Role
from expunge.run import Run

SCOPE = "the last linear layer on fixed features; the layers below it are as they were"


@dataclass(frozen=True)
class CertifiedRemoval:
    """Removal from a head that the learner ``ConvexHead`` trained.

    Args:
        epsilon: the most that all removals together may spend.
        delta: probability with which the certificate may fail, in (0, 1).
    """

    name: ClassVar[str] = "certified-removal"
    paper: ClassVar[str] = "Guo et al. 2020, Certified Data Removal from Machine Learning Models"
    sequential: ClassVar[bool] = True
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET, Role.RETAIN, record=True)
    of_learner: ClassVar[str] = ConvexHead.name
    search: ClassVar[Mapping[str, Range]] = {}  # a certificate is not tuned

    epsilon: float = 1.0
    delta: float = 1e-4

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and 0 < self.delta < 1):
            raise ExpungeError(
                f"certified-removal got epsilon {self.epsilon:g} and delta {self.delta:g}; an "
                "epsilon above 0 and a delta between 0 and 1 are expected."
            )

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The new head, what it spent so far, and the record for the next request.

        Raises:
            IntegrityError: the record belongs to another head.
            ExpungeError: the record is of no convex head, or the budget does not cover the request.
        """
        kept = _Kept.of(problem)
        there, here = (
            Rows.of(problem.model, problem.family, problem.data[role], run)
            for role in (Role.FORGET, Role.RETAIN)
        )
        run.meter.touch(Role.FORGET.value, len(there.features))
        run.meter.touch(Role.RETAIN.value, len(here.features))
        added, step = newton_step(kept.weights, there, here, kept.loss, kept.ridge)
        spent = self.spent(kept.residual + added, kept.noise)
        if spent > self.epsilon:
            raise ExpungeError(
                f"The removal would bring the epsilon that is spent from "
                f"{self.spent(kept.residual, kept.noise):.3g} to {spent:.3g}, at delta "
                f"{self.delta:g}, and {self.epsilon:g} are allowed; retrain the head without these "
                "rows (method `retrain`), or train it with more noise."
            )
        weights = kept.weights + step
        facts = {"residual": kept.residual + added}
        after = with_head(problem.model, weights)
        new = Replacement.of(
            after,
            problem.model,
            method=self.name,
            certified=SCOPE,
            epsilon=spent,
            delta=self.delta,
        )
        return Outcome((new,), Record({"head": weights}, {**problem_facts(problem), **facts}))

    def spent(self, residual: float, noise: float) -> float:
        """The epsilon that a gradient of norm ``residual`` costs under noise of this deviation."""
        if residual == 0:
            return 0.0
        return math.sqrt(2 * math.log(1.5 / self.delta)) * residual / noise if noise else math.inf


def newton_step(
    weights: Tensor, there: Rows, here: Rows, loss: ConvexLoss, ridge: float
) -> tuple[float, Tensor]:
    """The step that removes rows from a head, and a bound on the gradient that it leaves.

    Args:
        weights: the head (d, C), a minimum over all rows.
        there: the rows that go.
        here: the rows that stay.
        loss: of the head.
        ridge: of the head, a row.

    Returns:
        A bound on the norm of the gradient over the rows that stay, and the step (d, C).
    """
    gone = there.gradient(weights, loss, ridge)
    step = newton(here.hessian(weights, loss, ridge), gone)
    along = here.features @ step  # (n, C)
    largest = float(torch.linalg.matrix_norm(here.features, 2))
    left = loss.steepest / 2 * largest * along.abs().amax(0) * along.norm(dim=0)
    return float(left.norm()), step


def problem_facts(problem: Problem) -> Mapping[str, object]:
    """What the record says of the head."""
    assert problem.record is not None  # opened by the access
    return problem.record.facts


@dataclass(frozen=True)
class _Kept:
    """The record of a convex head."""

    weights: Tensor
    loss: ConvexLoss
    ridge: float
    noise: float
    residual: float

    @classmethod
    def of(cls, problem: Problem) -> "_Kept":
        facts = problem_facts(problem)
        assert problem.record is not None
        wanted = {"loss", "ridge", "noise", "residual"}
        if not wanted <= set(facts) or "head" not in problem.record.tensors:
            raise ExpungeError(
                f"certified-removal needs the record of a convex head, and this record holds "
                f"{', '.join(sorted(facts)) or 'no facts'}; train the head with the learner "
                "ConvexHead (expunge.learning.supervised.convex_head)."
            )
        weights = problem.record.tensors["head"]
        check_head(problem.model, weights)
        numbers = (float(str(facts[name])) for name in ("ridge", "noise", "residual"))
        return cls(weights, LOSSES[str(facts["loss"])](), *numbers)
