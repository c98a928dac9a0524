"""The jobs of the benchmark of concepts: models are made, poisoned at several rates, and read.

Every row of poison has the same budget: as many poisoned rows, steps and retained rows beside them,
at one learning rate, wherever the rows come from. Random labels on the whole class read twice as
many poisoned rows, in as many steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.audit.inside import brought_back, reads_of
from expunge.audit.removal import Removal
from expunge.benchmarks.classification.rows import Answers, Asked, Figures, Part, share_right
from expunge.benchmarks.concepts.worlds import ConceptWorld, concept_world
from expunge.benchmarks.jobs import Result, key_of
from expunge.changes.weights import load_stored, stored_tensors
from expunge.data.samples import Samples
from expunge.deployment import Deployment
from expunge.descent.given_labels import LabelsAmong
from expunge.descent.length import Steps, batches_of
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.errors import IntegrityError
from expunge.families.from_logits import log_odds
from expunge.learning.concepts.inference import Inferred
from expunge.methods.concept_poisoning import (
    Carriers,
    ConceptPoisoning,
    DrawnOnce,
    Labels,
    MostAttributed,
    NearestClass,
    OneClass,
    Poisoned,
    Redrawn,
)
from expunge.methods.protocol import ByDescent, Method, unlearn
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import predict
from expunge.storage import Bundle

BATCH, BESIDE = 16, 4.0
"""Poisoned rows a step, and retained rows for each of them."""

HALVES = 3
"""Random halves a seed."""

CONCEPTS, DRAWN, LEFT, WHOLE = "concept half", "random half", "other half", "whole class"
SURE = "confident half"
ONCE, NEAREST, FIXED = "concept half, labels once", "concept half, nearest", "concept half, fixed"
TUNED = "fine-tune"
LADDER = (WHOLE, DRAWN, CONCEPTS, LEFT, SURE)
"""The rows of poison that are compared at every rate. Two are controls: "other half" carries the
concepts least; to the rows of "confident half" the model itself gives the largest log-odds of their
class, for which no concept is needed."""

POISONED = (*LADDER, ONCE, NEAREST, FIXED)


@dataclass(frozen=True)
class Chosen:
    """Carriers that were chosen before: positions among the rows to be forgotten, ascending."""

    places: tuple[int, ...]
    by_concepts: bool = False

    def rows(self, poisoned: Poisoned, run: Run) -> Tensor:
        """The positions."""
        return torch.tensor(self.places)


@dataclass(frozen=True)
class RetainedAlone(ByDescent):
    """The steps of poison without the poison: fine-tuning on the retained rows beside it.

    Args:
        steps: as many.
        learning_rate: of SGD.
    """

    name: ClassVar[str] = TUNED
    paper: ClassVar[str] = "a control"

    steps: int
    learning_rate: float
    sequential: bool = False

    def descent(self) -> Descent:
        """The retain term of :class:`~expunge.methods.concept_poisoning.Poisoning`."""
        retained = ConceptPoisoning(batch_size=BATCH, retain_ratio=BESIDE)
        [player] = retained.descent(LabelsAmong(())).players
        sgd = SGD(self.learning_rate)
        alone = replace(player, forget=None, optimiser=sgd)
        return Descent(alone, length=Steps(self.steps), batch_size=BATCH)


@dataclass(frozen=True)
class Place:
    """A world with its digest, and the benchmark's folder."""

    world: str
    digest: str
    folder: Path

    @property
    def its(self) -> ConceptWorld:
        """The world."""
        return concept_world(self.world)

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        return {
            "digest": self.digest,
            "request": self.its.world.request("class").digest(),
            "concepts": {name: int(held.sum()) for name, held in self.its.concepts.items()},
            "budget": [self.its.epochs, BATCH, BESIDE, HALVES],
        }


@cache
def rows_of(name: str, part: Part) -> Asked:
    """The rows that are asked about."""
    return Asked.of(concept_world(name).world, "class", part)


@dataclass(frozen=True)
class Making:
    """Train the original, or the oracle: the same without the class."""

    place: Place
    oracle: bool
    seed: int

    @property
    def title(self) -> str:
        """World, what is trained, seed."""
        return f"{self.place.world}: {'oracle' if self.oracle else 'original'}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, what is trained, seed."""
        return {**self.place.facts(), "oracle": self.oracle, "seed": self.seed}

    def done(self) -> Result:
        """Train and keep it."""
        world = self.place.its.world
        rows = world.train
        if self.oracle:
            asked = rows_of(self.place.world, "test")
            gone = set(asked.forget.ids)
            kept = [place for place, name in enumerate(rows.ids) if name not in gone]
            rows = rows.select(torch.tensor(kept))
        recipe = replace(world.recipe, seed=self.seed)
        model = recipe.make({Role.TRAIN: rows}, Run(self.seed)).model
        Bundle({n: t.detach() for n, t in stored_tensors(model).items()}).save(self._path)
        return {"rows": len(rows)}

    def model(self) -> nn.Module:
        """The kept model; made again where the file is gone or damaged."""
        try:
            stored = Bundle.load_checked(self._path)
        except IntegrityError:
            self.done()
            stored = Bundle.load_checked(self._path)
        return load_stored(self.place.its.world.recipe.builder(self.seed), dict(stored.tensors))

    @property
    def _path(self) -> Path:
        return self.place.folder / "models" / f"{key_of(self)}.safetensors"


@dataclass(frozen=True, eq=False)
class Prepared:
    """One original, what was inferred of its concepts, and the halves that are poisoned."""

    place: Place
    seed: int
    problem: Problem
    found: Poisoned

    @classmethod
    def of(cls, place: Place, seed: int) -> "Prepared":
        """The concepts of the original of a seed."""
        its, method = place.its, ConceptPoisoning()
        world, model = its.world, Making(place, False, seed).model()
        deployment = Deployment(
            model,
            world.family,
            world.train,
            world.train_table,
            Sum(),
            data=its.examples,
            recipe=replace(world.recipe, seed=seed),
        )
        problem = deployment.problem(world.request("class"), method)
        artifact = method.prepare(problem.opened(method.prepares_with), Run(seed))
        found = method.poisoned(problem.opened(method.unlearns_with), artifact, Run(seed))
        return cls(place, seed, problem, found)

    @property
    def inferred(self) -> Inferred:
        """What was found of the concepts."""
        return self.found.concepts

    def halves(self, row: str) -> list[Carriers]:
        """The rows that a row of poison takes; several random halves."""
        count = len(self.found.labels)
        chosen = MostAttributed().rows(self.found, Run(self.seed))
        if row == WHOLE:
            return [Chosen(tuple(range(count)))]
        if row == DRAWN:
            draws = [
                torch.randperm(count, generator=Run(self.seed).generator(f"half {i}"))
                for i in range(HALVES)
            ]
            return [Chosen(tuple(sorted(draw[: len(chosen)].tolist()))) for draw in draws]
        if row in (LEFT, SURE):
            carried = self.inferred.carrying(MostAttributed().top)
            order = (carried if row == LEFT else -self._odds()).argsort(stable=True)
            return [Chosen(tuple(sorted(order[: len(chosen)].tolist())))]
        return [Chosen(tuple(chosen.tolist()))]

    def _odds(self) -> Tensor:
        """The model's own log-odds (m,) of the class of each row to be forgotten."""
        problem = self.problem
        found = predict(problem.family, problem.model, problem.data[Role.FORGET], Run(self.seed))
        return log_odds(found.logits[0].double(), found.labels)

    def labels(self, row: str) -> Labels:
        """The labels of a row of poison."""
        if row == NEAREST:
            return OneClass(self.nearest)
        if row == FIXED:
            return OneClass(self.place.its.target)
        return DrawnOnce() if row == ONCE else Redrawn()

    @property
    def nearest(self) -> int:
        """The class whose concepts are nearest."""
        term = NearestClass().term(self.found, torch.tensor([0]), Run(self.seed))
        return term.labels[0]

    def methods(self, row: str, rate: float) -> list[Method]:
        """What a row stands for: one method, or one a random half."""
        half = len(MostAttributed().rows(self.found, Run(self.seed)))
        steps = self.place.its.epochs * batches_of(half, BATCH)
        if row == TUNED:
            return [RetainedAlone(steps, rate)]
        found: list[Method] = []
        for carriers in self.halves(row):
            count = len(carriers.rows(self.found, Run(self.seed)))
            found.append(
                ConceptPoisoning(
                    self.labels(row),
                    carriers,
                    epochs=max(1, round(steps / batches_of(count, BATCH))),
                    learning_rate=rate,
                    batch_size=BATCH,
                    retain_ratio=BESIDE,
                )
            )
        return found

    def answered(self, method: Method) -> nn.Module:
        """The model after a method answered."""
        return unlearn(method, self.problem, Run(self.seed)).applied_to(self.problem.model)


def quick(place: Place, model: nn.Module, seed: int, part: Part) -> Figures:
    """Shares of right answers: of the class, on its training rows and held-out rows, and of the
    others alike."""
    found = Answers.of(place.its.world, rows_of(place.world, part), model, Run(seed))
    assert found.same is not None
    held, right = share_right(found.same), found.accuracies
    return {"forget": right.forget, "class": held, "retain": right.retain, "others": right.test}


@dataclass(frozen=True)
class Laddering:
    """Poison the original of a seed at one learning rate, and look at accuracies."""

    place: Place
    rate: float
    seed: int
    source: str

    @property
    def title(self) -> str:
        """World, rate, seed."""
        return f"{self.place.world}: rate {self.rate:g}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, rate, seed, the code of the method."""
        own = {"rate": self.rate, "seed": self.seed, "source": self.source, "rows": list(LADDER)}
        return {**self.place.facts(), **own}

    def done(self) -> Result:
        """Accuracies on validation and test rows by row of poison, one for each random half."""
        prepared = Prepared.of(self.place, self.seed)
        found: dict[str, list[dict[str, Figures]]] = {}
        for row in LADDER:
            found[row] = []
            for method in prepared.methods(row, self.rate):
                model = prepared.answered(method)
                found[row].append(
                    {
                        part: quick(self.place, model, self.seed, part)
                        for part in ("validation", "test")
                    }
                )
        return {"rows": found}


@dataclass(frozen=True)
class Reading:
    """Everything that is measured, of the models of one seed at the rate that was chosen."""

    place: Place
    rate: float
    seed: int
    seeds: int
    source: str

    @property
    def title(self) -> str:
        """World, seed."""
        return f"{self.place.world}: figures at rate {self.rate:g}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, rate, seeds, the code of the method."""
        own = {"rate": self.rate, "seed": self.seed, "seeds": self.seeds, "source": self.source}
        return {**self.place.facts(), **own}

    def done(self) -> Result:
        """Figures by row, and what was found of the concepts."""
        prepared = Prepared.of(self.place, self.seed)
        oracles = [Making(self.place, True, seed).model() for seed in range(self.seeds)]
        rows: dict[str, list[Figures]] = {
            "original": [self._read(prepared, prepared.problem.model, oracles)],
            "oracle": [self._read(prepared, oracles[self.seed], oracles, own=self.seed)],
        }
        for row in (TUNED, *POISONED):
            models = [prepared.answered(m) for m in prepared.methods(row, self.rate)]
            rows[row] = [self._read(prepared, model, oracles) for model in models]
        label = int(prepared.found.labels[0])
        report = prepared.inferred.report(5)
        return {"rows": rows, "concepts": report, "nearest": prepared.nearest, "class": label}

    def _read(
        self, prepared: Prepared, model: nn.Module, oracles: list[nn.Module], own: int = -1
    ) -> Figures:
        """Accuracies, distances, attacks and probes of one model; an oracle beside the others."""
        place, run = self.place, Run(self.seed)
        world, asked = place.its.world, rows_of(place.world, "test")
        answers = Answers.of(world, asked, model, run)
        beside = [
            Answers.of(world, asked, oracle, run)
            for seed, oracle in enumerate(oracles)
            if seed != own
        ]
        removal = self._removal(prepared, asked)
        return {
            **quick(place, model, self.seed, "test"),
            **_went(prepared, model, asked),
            "activation distance": answers.distances(beside)["activation distance"],
            "loss MIA": answers.figures()["loss MIA"],
            "probe": reads_of(removal, model),
            "brought back": brought_back(removal, model),
        }

    def _removal(self, prepared: Prepared, asked: Asked) -> Removal:
        world, problem = self.place.its.world, prepared.problem
        return Removal(
            world.request("class").name,
            problem.model,
            world.family,
            asked.forget,
            asked.retain,
            world.test,
            Run(self.seed),
        )


def _went(prepared: Prepared, model: nn.Module, asked: Asked) -> Figures:
    """Where held-out rows of the class go: entropy of the answers in nats, the largest share that
    one other class gets, and the shares of the nearest and the fixed class."""
    same: Samples | None = asked.same
    assert same is not None
    found = predict(prepared.problem.family, model, same, Run(prepared.seed))
    sure = found.logits[0].double().softmax(1)
    said = found.logits[0].argmax(1).bincount(minlength=sure.shape[1]).double() / len(sure)
    others = torch.ones(sure.shape[1], dtype=torch.bool)
    others[int(prepared.found.labels[0])] = False
    return {
        "entropy": float(-(sure * sure.clamp(min=1e-12).log()).sum(1).mean()),
        "to one class": float(said[others].max()),
        "to the nearest": float(said[prepared.nearest]),
        "to the fixed": float(said[prepared.place.its.target]),
    }
