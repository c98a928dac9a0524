"""Boundary expand: give forgotten rows to a class of their own, which is then taken away.

Chen, Gao, Liu, Peng, Wang (2023). Boundary Unlearning: Rapid Forgetting of Deep Networks via
Shifting the Decision Boundary. It reads the forget set alone.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import nn

from expunge.descent.boundary_terms import LastOutput
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.methods.presets import BOLD, Reach, climbed, forget_batch, passes
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

REACH = Reach(classes=0.15, rows=0.04)
"""How far the preset's descent could lead; see methods/presets.py."""


@dataclass(frozen=True)
class BoundaryExpand(OverDescent):
    """One more output unit learns the forget set, and is dropped.

    Args:
        epochs: passes over the forget set.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "boundary-expand"
    paper: ClassVar[str] = "Chen et al. 2023, Boundary Unlearning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-8, 1e-1),
        "epochs": WholeNumber(1, 20),
    }
    preset_rule: ClassVar[str] = (
        "batches of a quarter of the forget set; of rising learning rates, each tried on "
        "the problem, the first that lifts the forget loss to twice that of guessing (where the "
        "classes stay: by 0.03 of the way there)"
    )

    epochs: int = 10
    learning_rate: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    sequential: bool = False

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Smaller batches, at the smallest rate around :data:`REACH` that lifts the loss enough."""
        size = forget_batch(problem, self.batch_size)
        steps = passes(problem, Role.FORGET, self.epochs, size)
        rate = REACH.sgd_rate(problem, steps, self.momentum, run)
        fitting = replace(self, batch_size=size)
        return climbed(fitting, rate, BOLD, problem, run)

    def descent(self) -> Descent:
        """One player, one term, on a model with one more output."""
        return Descent(
            Player(
                forget=LastOutput(),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Widen the head, descend, and cut the new unit off again."""
        name = _head(problem.family, problem.model)
        wide = copy.deepcopy(problem.model)
        wide = _with_head(wide, name, _widened(wide.get_submodule(name), run))
        after = descent.minimise(replace(problem, model=wide), run).model
        after = _with_head(after, name, _narrowed(after.get_submodule(name)))
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)


def _head(family: Family, model: nn.Module) -> str:
    """The name of the linear layer that gives the logits; empty where the model is that layer.

    Raises:
        ExpungeError: the head does not end in a linear layer.
    """
    head = family.anatomy(model).head
    last = head[-1].rpartition(".")[0] if head else ""
    if type(model.get_submodule(last)) is not nn.Linear:
        ends = f"{head[-1]!r} is of no such layer" if head else "it has no head"
        raise ExpungeError(
            "Boundary expanding adds a unit to the linear layer that ends a model; this is a "
            f"{type(model).__name__} and {ends}. Take `boundary-shrink`, which leaves the "
            "architecture as it is."
        )
    return last


def _with_head(model: nn.Module, name: str, head: nn.Linear) -> nn.Module:
    if not name:
        return head
    model.set_submodule(name, head)
    return model


def _widened(head: nn.Module, run: Run) -> nn.Linear:
    """The layer with one more output, drawn as torch draws a linear layer."""
    assert isinstance(head, nn.Linear)
    wide = _linear(head, head.out_features + 1)
    bound, draws = head.in_features**-0.5, run.generator("the unit of the forgotten")
    with torch.no_grad():
        for new, old in zip(wide.parameters(), head.parameters(), strict=True):
            drawn = torch.empty(1, *old.shape[1:]).uniform_(-bound, bound, generator=draws)
            new.copy_(torch.cat([old, drawn.to(old)]))
    return wide


def _narrowed(head: nn.Module) -> nn.Linear:
    """The layer without its last output."""
    assert isinstance(head, nn.Linear)
    narrow = _linear(head, head.out_features - 1)
    with torch.no_grad():
        for new, old in zip(narrow.parameters(), head.parameters(), strict=True):
            new.copy_(old[:-1])
    return narrow


def _linear(like: nn.Linear, outputs: int) -> nn.Linear:
    # skip_init draws nothing from torch's global random numbers
    made: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear,
        like.in_features,
        outputs,
        bias=like.bias is not None,
        device=like.weight.device,
        dtype=like.weight.dtype,
    )
    for new, old in zip(made.parameters(), like.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    made.train(like.training)
    return made
