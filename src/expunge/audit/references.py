"""References of an audit: oracles and shadow models, trained once and asked once for all questions.

An oracle is trained by the recipe on the retained rows alone; a shadow model on a random half of
forgotten, retained and held-out rows. Both belong to the removal and not to the model that is
audited, so that several models can be held against the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.attacks.shadows import Shadows, Target
from expunge.audit.populations import KeptPopulation
from expunge.audit.removal import Answers, Removal, answers_of, margins_of
from expunge.data.samples import Joined, Samples
from expunge.learning.population import Engine, Member, Population, halves, members

ORACLE_SEED, SHADOW_SEED = 10_000, 20_000
"""First seeds, apart from those that models usually have."""


@dataclass(frozen=True, eq=False)
class References:
    """The models that an audit holds a deployed one against.

    Args:
        removal: what was to be forgotten.
        oracles: how many are trained; 0 for none.
        shadows: how many are trained; 0 for none.
        given: oracles that exist already; they come before those that are trained.
        folder: where trained models are kept and found again; nowhere by default.
        engine: how they are trained; the fastest that is found by default.
    """

    removal: Removal
    oracles: int = 0
    shadows: int = 0
    given: tuple[nn.Module, ...] = ()
    folder: Path | None = None
    engine: Engine | None = None

    @cached_property
    def models(self) -> tuple[nn.Module, ...]:
        """The oracles."""
        wanted = max(0, self.oracles - len(self.given))
        rows = tuple(range(len(self.removal.retain)))
        unseen = [Member(ORACLE_SEED + place, rows) for place in range(wanted)]
        return (*self.given, *self.trained(self.removal.retain, unseen))

    @cached_property
    def answers(self) -> tuple[Answers, ...]:
        """What each oracle answers."""
        return tuple(
            answers_of(self.removal, model, 2, f"oracle {place}")
            for place, model in enumerate(self.models)
        )

    @cached_property
    def original(self) -> Answers:
        """What the model before answers."""
        return answers_of(self.removal, self.removal.before, 2, "original")

    @cached_property
    def pool(self) -> Samples:
        """Forgotten, retained and held-out rows, in this order: what shadow models are drawn
        from."""
        return Joined.of(self.removal.forget, self.removal.retain, self.removal.unseen_rows)

    @cached_property
    def membership(self) -> Tensor:
        """Which rows of the pool each shadow model was trained on, bool (shadows, rows)."""
        return halves(self.shadows, len(self.pool), self.removal.run.seed)

    @cached_property
    def shadow_models(self) -> tuple[nn.Module, ...]:
        """The shadow models."""
        return tuple(self.trained(self.pool, members(self.membership, SHADOW_SEED)))

    @cached_property
    def shadow_answers(self) -> tuple[Answers, ...]:
        """What each shadow model answers."""
        return tuple(
            answers_of(self.removal, model, 2, f"shadow {place}")
            for place, model in enumerate(self.shadow_models)
        )

    def asked_of_shadows(self) -> Shadows:
        """The shadow models' margins on forgotten rows and on held-out rows like them."""
        columns = [*range(len(self.removal.forget))]
        first = len(self.removal.forget) + len(self.removal.retain)
        columns += (first + self.removal.alike).tolist()
        targets = [self.target(one) for one in self.shadow_answers]
        return Shadows(
            torch.stack([one.margins for one in targets]),
            self.membership[:, columns],
            targets[0].samples,
            tuple(one.model for one in targets),
        )

    def oracles_as_shadows(self, places: Sequence[int]) -> Shadows:
        """The margins of these oracles on the same rows; none of them trained on any."""
        targets = [self.target(self.answers[place]) for place in places]
        margins = torch.stack([one.margins for one in targets])
        member = torch.zeros(margins.shape[:2], dtype=torch.bool)
        return Shadows(margins, member, targets[0].samples, tuple(one.model for one in targets))

    def answers_as_targets(self) -> tuple[Target, ...]:
        """The oracles as targets of an attack."""
        return tuple(self.target(one) for one in self.answers)

    def target(self, answers: Answers) -> Target:
        """A model's margins on forgotten rows, then on held-out rows like them."""
        alike = [answers.held_out.samples[place] for place in self.removal.alike.tolist()]
        parts = (answers.forget, answers.held_out.of_samples(alike))
        margins = torch.cat([margins_of(part) for part in parts]).unsqueeze(1)
        names = (*answers.forget.samples, *alike)
        return Target(margins, names, answers.forget.models[0])

    def trained(self, rows: Samples, wanted: list[Member]) -> list[nn.Module]:
        """Models of the recipe on parts of these rows; none without a recipe."""
        if not wanted or self.removal.recipe is None:
            return []
        population = Population(self.removal.recipe, rows, self.removal.run)
        if self.folder is not None:
            return KeptPopulation(population, self.folder).models(wanted, engine=self.engine)
        found = dict(population.trained(wanted, self.engine))
        return [found[one] for one in wanted]
