"""Low rank: any method that descends, over the factors of an adapter in the place of the weights.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen (2021). LoRA: Low-Rank Adaptation of Large
Language Models. The layers are those of ``peft``, and the loop is the one of every other method:
what it is handed is a model whose weights are those of the problem, shared and not copied, with
factors beside them. At the start these change nothing, so the frozen reference is the problem's
model, and no second copy of the weights is held for it either.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor, nn

from expunge.changes.adapter import Factors, LowRank
from expunge.changes.guarded import unguarded
from expunge.descent.factors import ADAPTER, FACTOR, Shape, with_factors
from expunge.descent.loop import Descent
from expunge.descent.player import Parameters, Player
from expunge.errors import ExpungeError
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.language_presets import FACTORS
from expunge.methods.npo import NPORetain
from expunge.methods.protocol import ByDescent, Outcome
from expunge.methods.search import Range
from expunge.problem import Problem
from expunge.run import Run


@dataclass(frozen=True)
class InFactors:
    """Of the parameters that a player selects, those that are factors."""

    among: Parameters

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """Those of ``among`` whose weights are not shared.

        Raises:
            ExpungeError: it selects none.
        """
        selected = self.among.select(module, problem, run)
        found = {name: mask for name, mask in selected.items() if FACTOR in name}
        if not found:
            raise ExpungeError(
                f"The method moves {len(selected)} tensors, none of which is a low-rank factor; "
                "take one that moves all that requires a gradient, or name other `targets`."
            )
        return found


def over_factors(descent: Descent) -> Descent:
    """The same descent, in which players of the model move factors alone."""
    found = copy.copy(descent)
    found.players = tuple(_over_factors(player) for player in descent.players)
    return found


def _over_factors(player: Player) -> Player:
    if player.module != "model":
        return player
    return replace(player, parameters=InFactors(player.parameters))


def descended(
    descent: Descent,
    problem: Problem,
    run: Run,
    shape: Shape,
    *,
    name: str = "descent",
    start: Mapping[str, Factors] | None = None,
    **facts: object,
) -> LowRank:
    """The adapter where a descent over factors ends.

    Args:
        descent: its players may move what they like; of the model they move factors.
        problem: its model stays as it is.
        run: device and random numbers.
        shape: of the factors.
        name: of the descent.
        start: see :func:`with_factors`.
        facts: JSON values that travel with the adapter.

    Raises:
        ExpungeError: the model is pruned; its zeros would not stay.
    """
    if problem.support:
        raise ExpungeError(
            "The model is pruned, and the product of two factors would fill its zeros; take the "
            "method over full weights."
        )
    base = unguarded(problem.model)
    trained = with_factors(base, shape, run, start)
    after = over_factors(descent).minimise(replace(problem, model=trained), run, name).model
    return LowRank.of_peft(after, base, ADAPTER, **facts)


@dataclass(frozen=True)
class OverFactors(ByDescent):
    """A method whose change is the adapter where its descent over factors ends.

    Args:
        rank: see :class:`Shape`, as the others.
        alpha: see there.
        dropout: see there.
        targets: see there.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ()

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """An adapter of the base, or the model with it added if sequential."""
        shape = Shape(self.rank, self.alpha, self.dropout, self.targets)
        adapter = descended(descent, problem, run, shape, method=self.name)
        if not self.sequential:
            return Outcome((adapter,))
        base = unguarded(problem.model)
        return Outcome.of(adapter.applied_to(base), base, sequential=True, method=self.name)


@dataclass(frozen=True)
class LowRankMethod(OverFactors):
    """Any method that ends where its descent ends, over factors: ``LowRankMethod(around=NPO())``.

    Its learning rate is that of the method it is around; factors need larger ones than weights do,
    of about 1e-4 for large models.

    Args:
        around: the method.
    """

    name: ClassVar[str] = "low-rank"
    paper: ClassVar[str] = "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models"
    search: ClassVar[Mapping[str, Range]] = {}  # the inner method is tuned before it is put here

    around: ByDescent = field(kw_only=True)

    @property
    def sequential(self) -> bool:  # type: ignore[override]
        """As the inner method."""
        return self.around.sequential

    def descent(self) -> Descent:
        """That of the inner method."""
        return self.around.descent()


@dataclass(frozen=True)
class GradientDifferenceLora(OverFactors, GradientDifference):
    """Gradient difference over factors, at a learning rate of the size that is usual for these."""

    name: ClassVar[str] = "gradient-difference-lora"
    preset_stride: ClassVar[float] = FACTORS

    learning_rate: float = 1e-4


@dataclass(frozen=True)
class NPOLora(OverFactors, NPORetain):
    """NPO-RT over factors, at a learning rate of the size that is usual for these."""

    name: ClassVar[str] = "npo-lora"
    preset_stride: ClassVar[float] = FACTORS

    learning_rate: float = 1e-4
