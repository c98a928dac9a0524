"""Concept ablation: told the target, the model comes to see what it sees when told an anchor.

Kumari, Zhang, Wang, Shechtman, Zhang, Zhu (2023). Ablating Concepts in Text-to-Image Diffusion
Models; the model-based form.

Pictures of the anchor are drawn by the model itself, from the prompts of the target with the anchor
in its place; no picture of the target is looked at. A prior term keeps the anchor what it is, which
is wanted where the two share words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from expunge.changes.guarded import unguarded
from expunge.data.samples import TensorSamples
from expunge.descent.attention_selections import CrossAttention
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.prompt_terms import INSTEAD, AblatedNoise
from expunge.descent.retain_terms import Loss
from expunge.descent.spoken import PROMPT, PROMPTS, anchored, spoken
from expunge.errors import ExpungeError
from expunge.families.abilities import able
from expunge.families.diffusion import TextDiffusion
from expunge.families.diffusion_sampling import DDIM
from expunge.methods.protocol import Artifact, ByDescent, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class ConceptAblation(ByDescent):
    """Match the target's noise to the anchor's.

    Args:
        steps: of AdamW; 100 for objects and styles.
        learning_rate: of AdamW: 2e-6 for each of a batch of 4, twice that beside a prior term.
        batch_size: pictures a step.
        pictures: of the anchor that are drawn.
        prior: weight of the denoising loss on the anchor's pictures; 0 leaves it out.
        frozen: the teacher is the model at the start; the released code asks the present one.
        sampler_steps: of the DDIM sampler that draws the pictures (ours).
        guidance: of that sampler (ours).
        eta: of that sampler (ours): the noise in its steps.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: no picture is to be drawn.
    """

    name: ClassVar[str] = "concept-ablation"
    paper: ClassVar[str] = "Kumari et al. 2023, Ablating Concepts in Text-to-Image Diffusion Models"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-3),
        "steps": WholeNumber(50, 400),
    }

    steps: int = 100
    learning_rate: float = 1.6e-5
    batch_size: int = 4
    pictures: int = 1000
    prior: float = 1.0
    frozen: bool = False
    sampler_steps: int = 50
    guidance: float = 3.0
    eta: float = 0.0
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.pictures < 1 or self.prior < 0:
            raise ExpungeError(
                f"Concept ablation was asked for with {self.pictures} pictures and a prior of "
                f"{self.prior:g}; at least one picture and no negative weight are expected."
            )

    @property
    def unlearns_with(self) -> Access:
        """The prompts: the pictures that its terms read are the model's own."""
        return PROMPTS

    def descent(self) -> Descent:
        """One player, two terms on the drawn pictures."""
        return Descent(
            Player(
                others={
                    "ablate": On(Role.PRIOR, AblatedNoise(self.frozen)),
                    "prior": On(Role.PRIOR, Loss(self.prior)),
                },
                parameters=CrossAttention(("to_k", "to_v")),
                optimiser=AdamW(self.learning_rate),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
        )

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Draw the anchor's pictures, then descend on them."""
        drawn = {Role.PRIOR: self.drawn(problem, run)}
        return super().unlearn(replace(problem, data=drawn), artifact, run)

    def drawn(self, problem: Problem, run: Run) -> TensorSamples:
        """Pictures of the anchor: ``image``, ``prompt`` as drawn, ``instead`` of the target.

        Raises:
            ExpungeError: the request has no anchor, or no prompt speaks of the target.
        """
        family = able(problem.family, TextDiffusion)
        target = spoken(problem).target
        chosen = torch.arange(self.pictures) % len(target)
        anchor = anchored(problem, target)
        sampler = DDIM(self.sampler_steps, self.guidance, eta=self.eta)
        images = sampler.drawn(family, unguarded(problem.model), anchor[chosen], run, "anchor")
        run.meter.touch(Role.PROMPTS.value, len(target))
        ids = [f"drawn/{number}" for number in range(self.pictures)]
        columns = {"image": images, PROMPT: anchor[chosen], INSTEAD: target[chosen]}
        return TensorSamples(ids, ids, columns)
