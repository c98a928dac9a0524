"""Scissorhands: trim the connections that the forget set needs most, then repair the rest.

Wu, Harandi (2024). Scissorhands: Scrub Data Influence via Connection Sensitivity in Networks.
Weights with the largest |w dL_f/dw| are drawn anew; then the retain loss falls while the forget
loss is kept from falling, with the projection of gradient episodic memory.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.descent.forget_terms import Ascent
from expunge.descent.gradient_conflicts import EpisodicProjection
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.descent.selections import Connections, ForgetGradient
from expunge.errors import ExpungeError
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range
from expunge.problem import Problem
from expunge.run import Run


@dataclass(frozen=True)
class Scissorhands(OverDescent):
    """Trimming, then one player with two terms.

    The share, the weight of the ascent and the length are ours, since they differ from one
    published experiment to the next.

    Args:
        trimmed: share of all weights that are drawn anew.
        deviation: of the normal distribution of weights that are drawn anew, cut at twice that;
            biases and other vectors become 0.
        forget_weight: lambda, of the ascent on the forget set.
        margin: of the projection.
        steps: of Adam.
        learning_rate: of Adam.
        batch_size: rows a step of each set.
        clip: largest norm of the gradient.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: the deviation is below 0.
    """

    name: ClassVar[str] = "scissorhands"
    paper: ClassVar[str] = "Wu and Harandi 2024, Scissorhands"
    search: ClassVar[Mapping[str, Range]] = {
        "trimmed": LogUniform(0.001, 0.3),
        "forget_weight": LogUniform(1e-3, 1.0),
        "learning_rate": LogUniform(1e-5, 3e-3),
    }
    preset_rule: ClassVar[str] = (
        "0.1 % trimmed, 300 steps of 64 rows at a rate of 1e-3, the ascent at weight 0.01: a small "
        "network draws nothing after more, and needs long repair"
    )

    trimmed: float = 0.1
    deviation: float = 0.02
    forget_weight: float = 0.1
    margin: float = 0.5
    steps: int = 1000
    learning_rate: float = 1e-4
    batch_size: int = 128
    clip: float = 1.0
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.deviation < 0:
            raise ExpungeError(
                f"Weights were to be drawn anew with a deviation of {self.deviation:g}; a number "
                "of at least 0 is expected."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """A light trim and a short repair; see :attr:`preset_rule`."""
        return replace(
            self, trimmed=0.001, forget_weight=0.01, steps=300, learning_rate=1e-3, batch_size=64
        )

    def descent(self) -> Descent:
        """The repair."""
        return Descent(
            Player(
                forget=Ascent(self.forget_weight),
                retain=Loss(),
                optimiser=AdamW(self.learning_rate),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=EpisodicProjection(self.margin, self.clip),
        )

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Trim, then repair."""
        begun = replace(problem, model=self.trim(problem, run))
        after = descent.minimise(begun, run).model
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)

    def trim(self, problem: Problem, run: Run) -> nn.Module:
        """A copy of the model with its most sensitive connections drawn anew.

        Raises:
            ExpungeError: the share is not in (0, 1], or the forget loss has no gradient.
        """
        module = copy.deepcopy(problem.model).to(run.device)
        masks = Connections(self.trimmed, ForgetGradient()).select(module, problem, run)
        draws = run.generator("scissorhands")
        with torch.no_grad():
            for name, weight in module.named_parameters():
                if name in masks and bool(masks[name].any()):
                    weight[masks[name].to(weight.device)] = self._anew(weight, draws)[masks[name]]
        return module

    def _anew(self, like: Tensor, draws: torch.Generator) -> Tensor:
        """Normal weights cut at two deviations; zeros for vectors."""
        fresh = torch.zeros(like.shape)
        if like.dim() > 1 and self.deviation:
            edge = 2 * self.deviation
            nn.init.trunc_normal_(fresh, 0.0, self.deviation, -edge, edge, generator=draws)
        return fresh.to(like)
