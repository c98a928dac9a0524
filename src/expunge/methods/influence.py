"""Influence unlearning: one Newton-like step away from the forget set (IU).

Koh, Liang (2017), Understanding Black-box Predictions via Influence Functions; Izzo, Smart,
Chaudhuri, Zou (2021), Approximate Data Deletion from Machine Learning Models; with the inverse of
WoodFisher (Singh, Alistarh 2020), as the baseline IU of Jia et al. (2023), Model Sparsity Can
Simplify Machine Unlearning, and of SalUn.

The curvature is F = damping I + 1/m sum_t g_t g_t^T over the gradients g_t of m single retain rows,
WoodFisher's matrix; its inverse times a vector is found by conjugate gradients, which need no
matrix and one pass over the rows a step (one in all where the gradients fit into memory). The
recursion of the released code keeps one vector in the place of F_t^-1 g_t, so that it corrects
along the first gradient alone: it is not that inverse (tests/methods/test_influence.py), and stands
as ``as_published``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.changes.weights import parameters_of, with_weights
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss
from expunge.methods.presets import (
    BOLD,
    FORGETTING,
    Reach,
    climb,
    hold,
    weights_norm,
    without_answers,
)
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.gradients import (
    AT_ONCE,
    Gradients,
    losses_of,
    mean_gradient,
    row_gradients,
)

CLOSE = 1e-5
"""Residual of the linear system, relative to its right side, at which conjugate gradients stop."""

MOST_STEPS = 100
"""Steps of conjugate gradients at most: each is a pass over the curvature rows."""


FEWEST_ROWS, DAMPING = 64, 0.01
"""Curvature rows of the preset at least, and its damping as a share of the curvature's trace."""

OF_FACTS = (
    "On facts about invented people no strength took those of ten people away and left the rest."
)
"""Why there is no preset for language models."""

REACH = Reach(classes=0.05, rows=0.015)
"""The length of the preset's step; see methods/presets.py."""


@dataclass(frozen=True)
class Influence:
    """Influence unlearning with WoodFisher's inverse.

    Args:
        strength: factor of the step; 1 is the influence function's own, and every published
            comparison searches it.
        damping: what is added to the diagonal of the curvature, so that it has an inverse; 1 is
            what the recursion of the released code starts from.
        curvature_rows: retain rows of which the curvature is taken, drawn by the run.
        as_published: the recursion of the released code in the place of the inverse.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "influence"
    paper: ClassVar[str] = (
        "Izzo et al. 2021, Approximate Data Deletion from Machine Learning Models; Singh and "
        "Alistarh 2020, WoodFisher"
    )
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET, Role.RETAIN)
    search: ClassVar[Mapping[str, Range]] = {
        "strength": LogUniform(0.1, 1000.0),
        "damping": LogUniform(1e-4, 10.0),
    }
    preset_rule: ClassVar[str] = (
        "the curvature of as many rows as fit into memory, a damping of a hundredth of its trace, "
        "and of rising strengths the first that lifts the forget loss to twice that of guessing "
        "(where the classes stay: by 0.03 of the way to it)"
    )

    strength: float = 1.0
    damping: float = 1.0
    curvature_rows: int = 1000
    as_published: bool = False
    sequential: bool = False

    def __post_init__(self) -> None:
        if not (self.damping > 0 and self.curvature_rows > 0):
            raise ExpungeError(
                f"influence got damping {self.damping:g} and {self.curvature_rows} curvature rows; "
                "numbers above 0 are expected."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The strength at which the step is about as long as :data:`REACH` says; see climb.

        A model of zero gradients has no step: the fields stay as they are.
        """
        without_answers(problem, OF_FACTS)
        moving = sum(p.numel() for p in problem.model.parameters() if p.requires_grad)
        held = max(FEWEST_ROWS, AT_ONCE // (4 * max(1, moving)))
        fewer = replace(self, curvature_rows=min(self.curvature_rows, held), strength=1.0)
        curvature = fewer._curvature(problem, run)
        if (trace := curvature.trace()) == 0:
            return self
        fitting = replace(fewer, damping=DAMPING * trace)
        step = fitting._step(problem, curvature, run)
        if (length := _dot(step, step) ** 0.5) == 0:
            return self
        strength = REACH.of(problem) * weights_norm(problem.model) / length

        def moved(factor: float) -> nn.Module:
            return _moved(problem.model, step, strength * factor)

        factor = climb(moved, BOLD, problem, run)
        share = hold(lambda share: moved(share * factor), self.name, problem, run, FORGETTING)
        return replace(fitting, strength=strength * factor * share)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The model after the step; the facts name its length."""
        step = self._step(problem, self._curvature(problem, run), run)
        if all(not bool(part.any()) for part in step.values()):
            run.warn(
                "influence moved no parameter: the gradients of the forget and the retain set are "
                "zero at this model. Take a method that trains.",
            )
        after = _moved(problem.model, step, self.strength)
        facts = {"method": self.name, "length": self.strength * _dot(step, step) ** 0.5}
        return Outcome.of(after, problem.model, sequential=self.sequential, **facts)

    def _step(self, problem: Problem, curvature: "Curvature", run: Run) -> Gradients:
        """The step at strength 1."""
        direction = _within(removal_gradient(problem, run), problem.support)
        if self.as_published:
            return curvature.recursion(direction)
        return curvature.solved(direction, self.damping, run)

    def _curvature(self, problem: Problem, run: Run) -> "Curvature":
        retain = problem.data[Role.RETAIN]
        order = torch.randperm(len(retain), generator=run.generator("influence/curvature"))
        rows = retain.select(order[: self.curvature_rows])
        run.meter.touch(Role.RETAIN.value, len(rows))
        return Curvature(problem, rows, run)


def _moved(model: nn.Module, step: Gradients, strength: float) -> nn.Module:
    """The model after a step."""
    weights = parameters_of(model)
    moved = {
        name: (weights[name].detach().cpu().float() + strength * part.cpu()).to(weights[name].dtype)
        for name, part in step.items()
    }
    return with_weights(model, moved)


def removal_gradient(problem: Problem, run: Run) -> Gradients:
    """What the removal adds to the mean training gradient, with its sign turned.

    v = 1/N sum over the forget rows of grad - n_f / (N n_r) sum over the retain rows of grad, with
    N = n_f + n_r: gradient of the mean loss over all rows minus that over the retained ones. At a
    minimum of the training loss a step along the inverse curvature times v leads to the minimum
    without the forget rows.
    """
    forget, retain = problem.data[Role.FORGET], problem.data[Role.RETAIN]
    values = losses_of(problem.family)
    share = len(forget) / (len(forget) + len(retain))
    for role, samples in ((Role.FORGET, forget), (Role.RETAIN, retain)):
        run.meter.touch(role.value, len(samples))
    there, here = (
        mean_gradient(values, problem.family, problem.model, samples, run)
        for samples in (forget, retain)
    )
    return {name: share * (there[name] - here[name]) for name in there}


@dataclass(frozen=True)
class Curvature:
    """The empirical Fisher matrix of a model on ``rows``; only gradients of rows are ever held."""

    problem: Problem
    rows: Samples
    run: Run

    def times(self, vector: Gradients, damping: float) -> Gradients:
        """The product of damping I + 1/m sum g g^T with a vector."""
        total = {name: damping * part for name, part in vector.items()}
        for chunk in self._gradients():
            along = self._along(chunk, vector) / len(self.rows)
            for name, gradients in chunk.items():
                total[name] = total[name] + torch.tensordot(along, gradients, dims=1)
        return total

    def solved(self, right: Gradients, damping: float, run: Run) -> Gradients:
        """The inverse of the same matrix times ``right``, by conjugate gradients."""
        found = {name: part / damping for name, part in right.items()}
        residual = _plus(right, self.times(found, damping), -1.0)
        direction, size = residual, _dot(residual, residual)
        wanted = CLOSE**2 * _dot(right, right)
        for _ in range(MOST_STEPS):
            if size <= wanted:
                return found
            product = self.times(direction, damping)
            length = size / _dot(direction, product)
            found = _plus(found, direction, length)
            residual = _plus(residual, product, -length)
            size, before = _dot(residual, residual), size
            direction = _plus(residual, direction, size / before)
        run.warn(
            f"The inverse curvature is off by {(size / _dot(right, right)) ** 0.5:.1g} of the "
            f"gradient after {MOST_STEPS} steps; give influence a larger damping.",
        )
        return found

    def trace(self) -> float:
        """The trace of 1/m sum g g^T: the mean squared norm of a row's gradient."""
        return sum(_dot(chunk, chunk) for chunk in self._gradients()) / len(self.rows)

    def recursion(self, right: Gradients, weight: float = 1000.0) -> Gradients:
        """What the released code computes in the place of the inverse: see the module's text."""
        found, kept = {name: part.clone() for name, part in right.items()}, Gradients()
        for chunk in self._gradients():
            for row in range(len(next(iter(chunk.values())))):
                gradient = {name: part[row] for name, part in chunk.items()}
                if not kept:
                    kept = {name: part.clone() for name, part in gradient.items()}
                    continue
                along = _dot(kept, gradient)
                found = _plus(found, kept, -_dot(found, gradient) / (weight + along))
                kept = _plus(kept, kept, -along / (weight + along))
        return found

    @cached_property
    def _held(self) -> list[Gradients]:
        """All gradients, where they fit into one chunk's memory; else nothing."""
        numbers = sum(p.numel() for p in self.problem.model.parameters() if p.requires_grad)
        fits = 4 * numbers * len(self.rows) <= AT_ONCE
        return list(self._computed()) if fits else []

    def _gradients(self) -> Iterator[Gradients]:
        return iter(self._held) if self._held else self._computed()

    def _computed(self) -> Iterator[Gradients]:
        family, model = self.problem.family, self.problem.model
        found = row_gradients(losses_of(family), family, model, self.rows, self.run)
        return (_within(chunk, self.problem.support) for chunk in found)

    def _along(self, chunk: Gradients, vector: Gradients) -> Tensor:
        """Products (B,) of the rows of a chunk with a vector."""
        parts = [(chunk[name].flatten(1) @ vector[name].reshape(-1)) for name in vector]
        return torch.stack(parts).sum(0)


def _within(parts: Gradients, support: Mapping[str, Tensor]) -> Gradients:
    """Gradients, or those of many rows, of the weights that a pruned model has. The step is solved
    for among these: one solved for among all weights and then cut to these is another."""
    return {
        name: part * support[name].to(part.device) if name in support else part
        for name, part in parts.items()
    }


def _dot(one: Gradients, other: Gradients) -> float:
    return float(sum(float((one[n].double() * other[n].double()).sum()) for n in one))


def _plus(one: Gradients, other: Gradients, factor: float) -> Gradients:
    return {name: part + factor * other[name] for name, part in one.items()}
