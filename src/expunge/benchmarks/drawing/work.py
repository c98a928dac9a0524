"""The pieces of the benchmark: training, unlearning, and looking at what is drawn."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from expunge.audit.case import described, digest_of_rooms
from expunge.audit.kept_models import KeptModels
from expunge.benchmarks.digits_judge import NAMES
from expunge.benchmarks.drawing.rivals import ONCE, RIVALS, SEVERAL
from expunge.benchmarks.drawing.worlds import world
from expunge.benchmarks.jobs import Result, key_of
from expunge.benchmarks.picture_judge import Judged, jittered, judged
from expunge.changes.history import History
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.families.diffusion_sampling import DDIM, Sampler
from expunge.methods.protocol import Method, unlearn
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import NO_REQUEST, Request, Rows
from expunge.run import Run
from expunge.signals.frechet import frechet_distance, kernel_distance

JUDGE_SEED = 7
"""Of the one judge; models that draw have others."""

DRAWN, EACH, TRIED = 120, 36, 60
"""Pictures of the forgotten class, of every other class, and of the class that strengths are tried
on; of the others as many by :data:`TRIED` // 4."""

TRUSTED = 0.05
"""Share of real validation pictures of which the judge is less sure than of garbage."""

SHOWN, RATE = 16, 1e-3
"""Rows of the forgotten class that a model is shown when it learns again, and the rate."""

LOOKS = (0, 5, 10, 20)
"""Steps of relearning after which it is looked at; it counts as learned again where fewer than
half of :data:`AGAIN` pictures miss the class."""

AGAIN, FAST = 48, DDIM(10, 1.5)

Which = Literal["base", "oracle", "judge"]


@dataclass(frozen=True)
class Place:
    """Where a job stands: the benchmark's folder, and the class that is forgotten."""

    folder: Path
    forgotten: int

    def facts(self) -> dict[str, object]:
        """What a result depends on: rows and recipes, and the code."""
        rooms = ("descent", "learning", "families", "methods", "signals", "benchmarks/drawing")
        return {
            "digest": world().digest,
            "code": digest_of_rooms(rooms),
            "forgotten": self.forgotten,
        }

    def kept(self, key: str, architecture: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
        """The model of a key, made where it is not there."""
        return KeptModels(self.folder / "models").get(key, architecture, make)[0]


@dataclass(frozen=True)
class Training:
    """Train the judge, the base, or the oracle that never saw the forgotten class."""

    place: Place
    which: Which
    seed: int

    @property
    def title(self) -> str:
        """Model and seed."""
        return f"{self.which}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """Rows, recipe and seed; of the oracle the class too. Methods do not count."""
        told: dict[str, object] = {"digest": world().digest, "which": self.which}
        if self.which == "oracle":
            told["forgotten"] = self.place.forgotten
        return told | {"seed": self.seed, "code": digest_of_rooms(("learning/supervised",))}

    def done(self) -> Result:
        """Train and keep it."""
        start = time.process_time()
        self.model()
        return {"seconds": time.process_time() - start}

    def model(self) -> nn.Module:
        """The kept model; trained where its file is not there."""
        return self.place.kept(key_of(self), self._recipe.builder(self.seed), self._made)

    @property
    def _recipe(self) -> Recipe:
        its = world().judge if self.which == "judge" else world().recipe
        return its.with_seed(self.seed)

    def _made(self) -> nn.Module:
        rows = world().rows["train"]
        if self.which == "judge":
            rows = jittered(rows, Run(self.seed).generator("judge"))
        elif self.which == "oracle":
            rows = world().of_class("train", self.place.forgotten, others=True)
        return self._recipe.make({Role.TRAIN: rows}, Run(self.seed)).model


@dataclass(frozen=True)
class Judging:
    """What the judge says of real rows: without this no figure means anything."""

    place: Place

    @property
    def title(self) -> str:
        """What it is."""
        return "the judge on real rows"

    def depends_on(self) -> Mapping[str, object]:
        """Rows, judge and class."""
        return {**self.place.facts(), "judge": JUDGE_SEED}

    def done(self) -> Result:
        """Accuracy on test rows, and the distance of two halves of real retained rows."""
        look, forgotten = Look(self.place, 0), self.place.forgotten
        test = world().rows["test"]
        found = judged(look.judge, test.columns["image"])
        labels = test.columns["label"]
        right = found.classes == labels
        real = judged(look.judge, look.as_many("validation", "test"))
        gone = labels == forgotten
        return {
            "accuracy": share(right),
            "missed": share(~right[gone]),
            "garbage": share(found.surest < look.unsure),
            "probability": float(found.probabilities[gone, forgotten].mean()),
            "entropy": entropy(found.select(gone)),
            "retained": share(right[~gone]),
            **look.distances(real),
        }


@dataclass(frozen=True)
class Unlearning:
    """One method at one strength, from one base."""

    place: Place
    rival: str
    strength: int
    seed: int

    @property
    def title(self) -> str:
        """Row, class, strength, seed."""
        forgotten = NAMES[self.place.forgotten]
        return f"{self.rival}, strength {self.strength}, class {forgotten}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """Class, method with its fields, base."""
        told = {"method": described(self.method), "base": key_of(self._base), "seed": self.seed}
        return {**self.place.facts(), **told}

    @property
    def method(self) -> Method:
        """With its fields."""
        return RIVALS[self.rival].strengths[self.strength]

    @property
    def _base(self) -> Training:
        return Training(self.place, "base", self.seed)

    def done(self) -> Result:
        """Seconds, and what a few pictures say by which a strength is chosen; or that it
        diverged."""
        start = time.process_time()
        try:
            model = self.model()
        except ExpungeError as error:
            return {"diverged": str(error)}
        seconds = time.process_time() - start
        look = Look(self.place, self.seed)
        return {"seconds": seconds, **look.chosen_by(model, sampler_of(self.rival))}

    def model(self) -> nn.Module:
        """The model without the class."""
        return self.place.kept(key_of(self), world().recipe.builder(self.seed), self._made)

    def _made(self) -> nn.Module:
        base = self._base.model()
        problem = self.problem(base)
        return unlearn(self.method, problem, Run(self.seed)).applied_to(base)

    def problem(self, base: nn.Module) -> Problem:
        """What the method sees."""
        forgotten, room = self.place.forgotten, world()
        data: dict[Role, Samples] = {
            Role.FORGET: room.of_class("train", forgotten),
            Role.RETAIN: room.of_class("train", forgotten, others=True),
        }
        name = NAMES[forgotten]
        request = Request(f"no more {name}", Rows("label", (name,)), labels=(forgotten,), text=name)
        return Problem(base, room.family, request, data, History())


@dataclass(frozen=True)
class Look:
    """What models of a seed draw."""

    place: Place
    seed: int

    @property
    def judge(self) -> nn.Module:
        """The judge."""
        return Training(self.place, "judge", JUDGE_SEED).model()

    @property
    def unsure(self) -> float:
        """How sure the judge is at least of all but a few real validation pictures."""
        real = judged(self.judge, world().rows["validation"].columns["image"])
        return float(real.surest.quantile(TRUSTED))

    def drawn(self, model: nn.Module, sampler: Sampler, told: Tensor, name: str) -> Judged:
        """What the judge says of pictures of conditions, of the same noise for every model."""
        return judged(self.judge, sampler.drawn(world().family, model, told, Run(self.seed), name))

    def chosen_by(self, model: nn.Module, sampler: Sampler) -> dict[str, float]:
        """Shares of pictures of the class that miss it, and of others that hit theirs."""
        gone = self.drawn(model, sampler, self._gone(TRIED), "strength")
        kept = self._kept(TRIED // 4)
        others = self.drawn(model, sampler, kept, "strength of others")
        missed = share(gone.classes != self.place.forgotten)
        return {"missed": missed, "retained": share(others.classes == kept)}

    def figures(self, model: nn.Module, sampler: Sampler) -> dict[str, float]:
        """Everything that is reported of a model."""
        forgotten, kept = self.place.forgotten, self._kept(EACH)
        gone = self.drawn(model, sampler, self._gone(DRAWN), "report")
        none = world().family.empty(self._gone(DRAWN))
        untold = self.drawn(model, sampler, none, "report of none")
        start = time.process_time()
        others = self.drawn(model, sampler, kept, "report of others")
        each = (time.process_time() - start) / len(kept)
        found = {
            "missed": share(gone.classes != forgotten),
            "probability": float(gone.probabilities[:, forgotten].mean()),
            "entropy": entropy(gone),
            "next": share(gone.classes == (forgotten + 1) % len(NAMES)),
            "garbage": share(gone.surest < self.unsure),
            "untold": share(untold.classes == forgotten),
            "retained": share(others.classes == kept),
            "garbage kept": share(others.surest < self.unsure),
            "milliseconds": 1000 * each,
            "evaluations": evaluations(sampler),
            **self.distances(others),
        }
        return found | {"relearned": self.relearned(model)}

    def distances(self, retained: Judged) -> dict[str, float]:
        """How far pictures of the retained classes are from as many real training rows."""
        reference = judged(self.judge, self.as_many("train")).features
        return {
            "distance": frechet_distance(reference, retained.features),
            "kernel": kernel_distance(reference, retained.features),
        }

    def as_many(self, *splits: str) -> Tensor:
        """:data:`EACH` real pictures of every retained class, from some splits.

        Classes are as even as in what is drawn: features of classes lie far apart, so that uneven
        shares would look like a distance.
        """
        found = []
        for label in range(len(NAMES)):
            if label != self.place.forgotten:
                rows = [world().of_class(split, label).columns["image"] for split in splits]
                images = torch.cat(rows)
                order = torch.randperm(len(images), generator=Run(0).generator(f"real/{label}"))
                found.append(images[order[:EACH]])
        return torch.cat(found)

    def relearned(self, model: nn.Module) -> float:
        """Steps on a few rows of the class, and as many others, until it is drawn again in several
        steps: one of :data:`LOOKS`, NaN where none of them is enough."""
        forgotten, room = self.place.forgotten, world()
        draws = Run(0).generator("relearned")
        gone, others = (
            _few(room.of_class("train", forgotten, others=flag), draws) for flag in (False, True)
        )
        shown = TensorSamples(
            [*gone.ids, *others.ids],
            [*gone.subjects, *others.subjects],
            {name: torch.cat([gone.columns[name], others.columns[name]]) for name in gone.columns},
        )
        told = self._gone(AGAIN)
        steps: list[int] = []

        def look(step: int, live: nn.Module) -> None:
            if step in LOOKS and not steps:
                found = self.drawn(live, FAST, told, "relearned")
                if share(found.classes != forgotten) < 0.5:
                    steps.append(step)

        look(0, model)
        if not steps:
            descent = Descent(
                Player(others={"shown": On(Role.TRAIN, Loss())}, optimiser=AdamW(RATE)),
                length=Steps(LOOKS[-1]),
                batch_size=2 * SHOWN,
            )
            problem = Problem(model, room.family, NO_REQUEST, {Role.TRAIN: shown}, History())
            descent.minimise(problem, Run(self.seed), name="relearning", each=look)
        return float(steps[0]) if steps else math.nan

    def _gone(self, count: int) -> Tensor:
        return torch.full((count,), self.place.forgotten)

    def _kept(self, each: int) -> Tensor:
        others = [c for c in range(len(NAMES)) if c != self.place.forgotten]
        return torch.tensor(others).repeat_interleave(each)


@dataclass(frozen=True)
class Looking:
    """Report on one model: a training, an unlearning, or untrained weights (``what`` None).

    ``once`` draws in one step what was not distilled.
    """

    place: Place
    what: Training | Unlearning | None
    seed: int
    once: bool = False

    @property
    def title(self) -> str:
        """What is looked at."""
        name = f"destroyed, seed {self.seed}" if self.what is None else self.what.title
        return f"looked at {name}{' in one step' if self.once else ''}"

    def depends_on(self) -> Mapping[str, object]:
        """The model and how it is drawn from."""
        told = None if self.what is None else key_of(self.what)
        return {**self.place.facts(), "model": told, "seed": self.seed, "once": self.once}

    def done(self) -> Result:
        """Figures, or that it diverged."""
        sampler: Sampler = ONCE if self.once else SEVERAL
        if isinstance(self.what, Unlearning):
            sampler = sampler_of(self.what.rival)
        try:
            if self.what is None:
                model = world().recipe.builder(self.seed + 1000)
            else:
                model = self.what.model()
            return Look(self.place, self.seed).figures(model, sampler)
        except ExpungeError as error:
            return {"diverged": str(error)}


@dataclass(frozen=True)
class Accepting:
    """Whether a base draws every condition: the judge's accuracy by class, and the distance."""

    place: Place
    seed: int

    @property
    def title(self) -> str:
        """The base."""
        return f"accepting the base of seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The base."""
        base = Training(self.place, "base", self.seed)
        return {**self.place.facts(), "base": key_of(base), "seed": self.seed}

    def done(self) -> Result:
        """Accuracy by class, and distance of the retained ones."""
        look, model = (
            Look(self.place, self.seed),
            Training(self.place, "base", self.seed).model(),
        )
        told = torch.arange(len(NAMES)).repeat_interleave(EACH)
        found = look.drawn(model, SEVERAL, told, "acceptance")
        right = (found.classes == told).view(len(NAMES), EACH).double().mean(1)
        kept = found.select(told != self.place.forgotten)  # as many of each, in order
        return {"by class": [round(float(r), 4) for r in right], **look.distances(kept)}


def sampler_of(rival: str) -> Sampler:
    """How a row is drawn from."""
    return ONCE if RIVALS[rival].once else SEVERAL


def evaluations(sampler: Sampler) -> float:
    """Network evaluations of one picture: a guidance asks twice a step."""
    if not isinstance(sampler, DDIM):
        return 1.0
    return float(sampler.steps * (1 if sampler.guidance == 1 else 2))


def share(flags: Tensor) -> float:
    """The share that is true."""
    return float(flags.double().mean())


def entropy(found: Judged) -> float:
    """Mean entropy of the judge's probabilities, in nats."""
    p = found.probabilities.double()
    return float(-(p * p.clamp(min=1e-12).log()).sum(1).mean())


def _few(rows: TensorSamples, generator: torch.Generator) -> TensorSamples:
    return rows.select(torch.randperm(len(rows), generator=generator)[:SHOWN])
