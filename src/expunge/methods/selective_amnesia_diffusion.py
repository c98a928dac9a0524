"""Selective Amnesia for diffusion models: a surrogate for the target, and weights held elastically.

Heng, Soh (2023). Selective Amnesia: A Continual Learning Approach to Forgetting in Deep Generative
Models: L = L(surrogate, c_f) + gamma L(the model's own pictures of what stays) + lambda sum F (w -
w_0)^2. No row of data is read. (A method for language models has the same short name.)

F is divided by its mean here, so that ``elasticity`` is no published lambda; see
descent/denoising_terms.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch

from expunge.data.samples import TensorSamples
from expunge.descent.conditions import kept_of, unsaid
from expunge.descent.denoising_sources import UniformPictures
from expunge.descent.denoising_terms import Elastic
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.descent.transforms import ClipNorm
from expunge.errors import ExpungeError
from expunge.families.abilities import able
from expunge.families.diffusion import Diffusion
from expunge.families.diffusion_sampling import DDIM
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range
from expunge.problem import Access, Missing, Problem
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class SelectiveAmnesiaDiffusion(OverDescent):
    """One player: pictures of uniform noise for the target, replay, and the elastic pull.

    Args:
        elasticity: lambda, over F of mean 1.
        replay_weight: gamma.
        replayed: pictures that the model draws of what stays, before the descent.
        sampler: draws them.
        prompts: what stays, where the model is told sentences; labels are known.
        target_prompts: how the target is spoken of; by default in its own words.
        fisher_rows: drawn pictures that F is read from.
        fisher_stride: of the timesteps that F is read at; 1 reads all.
        steps: of Adam.
        learning_rate: of Adam.
        batch_size: rows a step of each term.
        clip: largest norm of the gradient.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: no picture is to be drawn.
    """

    name: ClassVar[str] = "amnesia-diffusion"
    paper: ClassVar[str] = "Heng and Soh 2023, Selective Amnesia"
    search: ClassVar[Mapping[str, Range]] = {
        "elasticity": LogUniform(1e-3, 100.0),
        "learning_rate": LogUniform(1e-5, 3e-3),
    }
    preset_rule: ClassVar[str] = (
        "100 steps of 64 rows at a rate of 1e-3, 360 pictures replayed, F at 20 timesteps of 50 of "
        "them, elasticity 0.1"
    )

    elasticity: float = 10.0
    replay_weight: float = 1.0
    replayed: int = 5000
    sampler: DDIM = field(default_factory=lambda: DDIM(50))
    prompts: tuple[str, ...] = ()
    target_prompts: tuple[str, ...] = ()
    fisher_rows: int = 1000
    fisher_stride: int = 1
    steps: int = 20_000
    learning_rate: float = 1e-4
    batch_size: int = 128
    clip: float = 1.0
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.replayed < 1:
            raise ExpungeError(
                f"{self.replayed} pictures were to be replayed; at least 1 is expected."
            )

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """A condition to forget: no row is read that could say it."""
        return unsaid(problem)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """A short descent and a small F; see :attr:`preset_rule`."""
        timesteps = able(problem.family, Diffusion).schedule.steps
        return replace(
            self,
            elasticity=0.1,
            replayed=360,
            sampler=DDIM(min(25, timesteps), 1.5),
            fisher_rows=50,
            fisher_stride=max(1, timesteps // 20),
            steps=100,
            learning_rate=1e-3,
            batch_size=64,
        )

    @property
    def unlearns_with(self) -> Access:
        """Nothing: all pictures are made up."""
        return Access()

    def descent(self) -> Descent:
        """One player, three terms."""
        elastic = Elastic(self.elasticity, self.fisher_rows, self.fisher_stride)
        return Descent(
            Player(
                others={
                    "surrogate": On(UniformPictures(self.target_prompts), Loss()),
                    "replay": On(Role.PRIOR, Loss(self.replay_weight)),
                    "elastic": On(Role.PRIOR, elastic),
                },
                optimiser=AdamW(self.learning_rate),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
        )

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Draw what stays, then descend.

        Raises:
            ExpungeError: the request does not say in words what is to go, or nothing says what
                stays.
        """
        known = replace(problem, data={Role.PRIOR: self.own(problem, run)})
        after = descent.minimise(known, run).model
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)

    def own(self, problem: Problem, run: Run) -> TensorSamples:
        """Pictures of what stays, every condition as often, that the model draws."""
        family = able(problem.family, Diffusion)
        kept = kept_of(problem, self.prompts)
        told = kept[torch.arange(self.replayed) % len(kept)]
        drawn = self.sampler.drawn(family, problem.model, told, run, "replayed")
        ids = [f"replayed {i}" for i in range(len(drawn))]
        run.meter.touch("made up", len(drawn))
        return TensorSamples(ids, ids, {"image": drawn, family.told_by: told})
