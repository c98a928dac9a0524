"""The pieces of the benchmark: pruned models and their oracles, methods with their strengths, gaps.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023). Model Sparsity Can Simplify Machine Unlearning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import described, reason_of
from expunge.benchmarks.classification.rows import MOST, Answers, Asked, Figures, gap
from expunge.benchmarks.classification.worlds import Kind, World, drawn, world
from expunge.benchmarks.jobs import Result, key_of
from expunge.changes.weights import load_stored, stored_tensors
from expunge.deployment import Deployment
from expunge.errors import IntegrityError
from expunge.learning.supervised.magnitude_pruned import MagnitudePruned
from expunge.learning.supervised.masks import Matrices, masks_of, sparsity_of
from expunge.learning.supervised.plain import Plain
from expunge.learning.supervised.synflow import SynFlow
from expunge.methods.fine_tune import FineTune
from expunge.methods.fisher_forgetting import FisherForgetting
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.influence import Influence
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.protocol import Method, unlearn
from expunge.methods.prune_then_unlearn import PruneThenUnlearn
from expunge.methods.retrain import Retrain
from expunge.problem import Problem
from expunge.recipe import Learner, Recipe, Record, Role, Trained
from expunge.requests import Request, Rows
from expunge.run import Run

DENSE = "dense"

PRUNERS: Mapping[str, Callable[[Plain], Learner]] = {
    DENSE: lambda training: training,
    "one-shot 50 %": lambda training: MagnitudePruned(training, 0.5, 1, 1, Matrices()),
    "one-shot 80 %": lambda training: MagnitudePruned(training, 0.8, 1, 1, Matrices()),
    "one-shot 95 %": lambda training: MagnitudePruned(training, 0.95, 1, 1, Matrices()),
    "iterative 79 %": lambda training: MagnitudePruned(training, 0.2, 7, 1, Matrices()),
    "iterative 96 %": lambda training: MagnitudePruned(training, 0.2, 14, 1, Matrices()),
    "SynFlow 80 %": lambda training: SynFlow(training, 0.8, 100, Matrices()),
    "SynFlow 95 %": lambda training: SynFlow(training, 0.95, 100, Matrices()),
}
"""How a model is pruned. The weights of linear layers are pruned, too: these networks have most of
theirs there, where the paper's have convolutions."""

KINDS: tuple[Kind, ...] = ("class", "random 10 %")

AVERAGED = ("UA", "RA", "TA", "SVC-MIA")
"""The figures of the paper, whose mean distance to the oracles is the gap."""

ACCURACIES = AVERAGED[:3]
"""Without the attack, which on a removed class says 0 of one oracle and 1 of another."""

EPOCHS_SHARE = 1 / 3
"""Passes of fine-tuning, as a share of those of the training."""


@dataclass(frozen=True)
class Subject:
    """A method, and the strengths among which validation rows decide.

    ``field`` is the field that is its strength; ``paced`` methods have ``epochs`` that follow from
    the training's.
    """

    method: Method
    field: str
    strengths: tuple[float, ...]
    paced: bool = False

    def at(self, strength: float, training: Plain) -> Method:
        """The method at a strength, on a model of this training."""
        changed: dict[str, Any] = {self.field: strength}
        if self.paced:
            changed["epochs"] = max(1, round(EPOCHS_SHARE * training.epochs))
        found: Method = replace(self.method, **changed)  # type: ignore[type-var]
        return found


SUBJECTS: Mapping[str, Subject] = {
    "fine-tune": Subject(FineTune(), "learning_rate", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), True),
    "gradient-ascent": Subject(
        GradientAscent(5), "learning_rate", (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
    ),
    "fisher-forgetting": Subject(FisherForgetting(), "alpha", (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)),
    "influence": Subject(
        Influence(damping=0.1, curvature_rows=250), "strength", (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    ),
    "l1-sparse": Subject(
        L1Sparse(batch_size=64), "gamma", (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2), True
    ),
}
"""The methods of the paper in the forms that are registered here; six strengths each.

The paper's fine-tuning and ascent have SGD where these have Adam, its influence is the released
recursion (`as_published`), and its Fisher forgetting erases the row of a class."""

ON_DENSE_ALONE = ("l1-sparse",)
"""Methods that make the model sparse themselves."""


def few_clothes() -> World:
    """10,000 rows of Fashion-MNIST and the small convolutional network."""
    whole, name = world("clothes"), "clothes-10k"
    train, table = whole.train.select(torch.arange(10_000)), whole.train_table
    table = table.select(range(10_000))  # type: ignore[attr-defined]
    rows = Request("random 10 %", Rows("id", drawn(train.ids, 0.1)))
    requests: dict[Kind, Request] = {"class": whole.request("class"), "random 10 %": rows}
    return replace(whole, name=name, train=train, train_table=table, requests=requests)


ROOMS: Mapping[str, Callable[[], World]] = {
    "digits": lambda: world("digits"),
    "clothes-10k": few_clothes,
}


@cache
def room(name: str) -> World:
    """A world of this benchmark; its rows are read once a process."""
    return ROOMS[name]()


@cache
def rows_of(name: str, kind: Kind, part: Literal["validation", "test"]) -> Asked:
    """The rows of a request that are asked about."""
    return Asked.of(room(name), kind, part)


@dataclass(frozen=True)
class Place:
    """A world with its digest, the benchmark's folder, and how its models are pruned."""

    world: str
    digest: str
    folder: Path
    pruner: str

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        return {"digest": self.digest, "learner": described(self.learner)}

    @property
    def training(self) -> Plain:
        """The training of the dense model."""
        learner = room(self.world).recipe.learner
        assert isinstance(learner, Plain)
        return learner

    @property
    def learner(self) -> Learner:
        """What trains and prunes."""
        return PRUNERS[self.pruner](self.training)

    def recipe(self, seed: int) -> Recipe:
        """How a model of a seed is made."""
        return replace(room(self.world).recipe, learner=self.learner, seed=seed)

    def under(self, method: Method) -> Method:
        """The method on a pruned model; itself on the dense one."""
        return method if self.pruner == DENSE else PruneThenUnlearn(method)


@dataclass(frozen=True)
class Training:
    """Train and prune the base (without a request), or retrain the oracle of a request under the
    masks of the base of its seed."""

    place: Place
    kind: Kind | None
    seed: int

    @property
    def title(self) -> str:
        """World, pruner, what is trained, seed."""
        what = "base" if self.kind is None else f"oracle of {self.kind}"
        return f"{self.place.world}, {self.place.pruner}: {what}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, learner, request, seed."""
        asked = None if self.kind is None else room(self.place.world).request(self.kind).digest()
        own = {"kind": self.kind, "request": asked, "seed": self.seed}
        return {**self.place.facts(), **own}

    def done(self) -> Result:
        """Train and keep it."""
        trained = self._made()
        found = Record(
            {f"model/{n}": t.detach() for n, t in stored_tensors(trained.model).items()}
            | (dict(trained.record.tensors) if trained.record else {})
        )
        found.save(self._path)
        return {"sparsity": sparsity_of(masks_of(trained.record)) if trained.record else 0.0}

    def trained(self) -> Trained:
        """The kept model and its masks; made again where the file is gone or damaged."""
        try:
            stored = Record.load_checked(self._path).tensors
        except IntegrityError:
            self.done()
            stored = Record.load_checked(self._path).tensors
        weights = {n.removeprefix("model/"): t for n, t in stored.items() if n[:6] == "model/"}
        masks = {n: t for n, t in stored.items() if n[:6] != "model/"}
        untrained = room(self.place.world).recipe.builder(self.seed)
        return Trained(load_stored(untrained, weights), Record(masks) if masks else None)

    @property
    def _path(self) -> Path:
        return self.place.folder / "models" / f"{key_of(self)}.safetensors"

    def _made(self) -> Trained:
        if self.kind is None:
            data = {Role.TRAIN: room(self.place.world).train}
            return self.place.recipe(self.seed).make(data, Run(self.seed))
        base = replace(self, kind=None).trained()
        method = self.place.under(Retrain())
        retain = _problem(self.place, self.kind, base, self.seed, method, shown=False)
        outcome = unlearn(method, retain, Run(self.seed))
        return Trained(outcome.applied_to(base.model), base.record)


def _problem(
    place: Place, kind: Kind, base: Trained, seed: int, method: Method, shown: bool = True
) -> Problem:
    """What a method sees of a request; the whole retain set, or the rows that methods are shown."""
    its = room(place.world)
    deployment = Deployment(
        base.model,
        its.family,
        its.train,
        its.train_table,
        Sum(),
        recipe=place.recipe(seed),
        record=base.record,
    )
    problem = deployment.problem(its.request(kind), method)
    if not shown:
        return problem
    return replace(problem, data=rows_of(place.world, kind, "validation").shown(problem))


@dataclass(frozen=True)
class Asking:
    """A request on the pruned models of several seeds."""

    place: Place
    kind: Kind
    seeds: tuple[int, ...]

    @property
    def title(self) -> str:
        """World, pruner, request."""
        return f"{self.place.world}, {self.place.pruner}, {self.kind}"

    @property
    def dense(self) -> "Asking":
        """The same request on the dense models."""
        return replace(self, place=replace(self.place, pruner=DENSE))

    def facts_of_one(self) -> dict[str, object]:
        """What the figures of one model depend on beside the model."""
        its = room(self.place.world)
        return {
            **self.place.facts(),
            "kind": self.kind,
            "request": its.request(self.kind).digest(),
            "rows": {"shown": its.shown, "asked": dict(MOST)},
            "figures": list(AVERAGED),
        }

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        return {**self.facts_of_one(), "seeds": list(self.seeds)}

    def read(self, model: nn.Module, seed: int, part: Literal["validation", "test"]) -> Figures:
        """The figures of a model."""
        its, rows = room(self.place.world), rows_of(self.place.world, self.kind, part)
        found = Answers.of(its, rows, model, Run(seed)).figures()
        return {name: found[name] for name in AVERAGED}

    def oracles(self, part: Literal["validation", "test"]) -> list[Figures]:
        """Those of the oracles, one a seed."""
        kind = self.kind
        return [
            self.read(Training(self.place, kind, seed).trained().model, seed, part)
            for seed in self.seeds
        ]

    def answered(self, method: Method, seed: int) -> nn.Module:
        """The model after the method answered on the base of a seed.

        Raises:
            ExpungeError: the answer is no change of weights.
        """
        base = Training(self.place, None, seed).trained()
        method = self.place.under(method)
        outcome = unlearn(method, _problem(self.place, self.kind, base, seed, method), Run(seed))
        return outcome.applied_to(base.model)


@dataclass(frozen=True)
class Reading:
    """The figures of the originals and of the oracles on test rows."""

    asking: Asking

    @property
    def title(self) -> str:
        """World, pruner, request."""
        return f"{self.asking.title}: originals and oracles"

    def depends_on(self) -> Mapping[str, object]:
        """The request."""
        return self.asking.facts()

    def done(self) -> Result:
        """Figures of each, by seed."""
        asking = self.asking
        return {
            "oracles": asking.oracles("test"),
            "originals": [
                asking.read(Training(asking.place, None, seed).trained().model, seed, "test")
                for seed in asking.seeds
            ],
        }


@dataclass(frozen=True)
class Tuning:
    """Choose the strength of a method on validation rows, on the base of the first seed."""

    asking: Asking
    method: str
    source: str

    @property
    def title(self) -> str:
        """World, pruner, request, method."""
        return f"{self.asking.title}: strength of {self.method}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the method with its strengths and its code."""
        own = {"method": described(SUBJECTS[self.method]), "epochs": EPOCHS_SHARE}
        return {**self.asking.facts(), **own, "source": self.source}

    def done(self) -> Result:
        """The gap to the oracles of the same masks at every strength, and the best of them."""
        asking, subject = self.asking, SUBJECTS[self.method]
        oracles = asking.oracles("validation")
        tried: list[dict[str, Any]] = []
        for strength in subject.strengths:
            try:
                model = asking.answered(
                    subject.at(strength, asking.place.training), asking.seeds[0]
                )
                found = gap(asking.read(model, asking.seeds[0], "validation"), oracles, AVERAGED)
                tried.append({"strength": strength, "gap": found})
            except Exception as error:  # a method may fail in any way; others go on
                tried.append({"strength": strength, "failed": reason_of(error)})
        sound = [trial for trial in tried if "gap" in trial]
        best = min(sound, key=lambda trial: trial["gap"], default=None)
        return {"tried": tried, "strength": None if best is None else best["strength"]}


@dataclass(frozen=True)
class Answering:
    """Let a method of one strength answer on the base of one seed."""

    asking: Asking
    method: str
    source: str
    strength: float
    seed: int

    @property
    def title(self) -> str:
        """World, pruner, request, method, strength, seed."""
        return f"{self.asking.title}: {self.method} at {self.strength:g}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the method with its strength and its code, the seed."""
        own = described(SUBJECTS[self.method].at(self.strength, self.asking.place.training))
        facts = {"method": own, "source": self.source, "seed": self.seed}
        return {**self.asking.facts_of_one(), **facts}

    def done(self) -> Result:
        """Figures on test rows; or why there are none."""
        asking = self.asking
        method = SUBJECTS[self.method].at(self.strength, asking.place.training)
        try:
            return {"figures": asking.read(asking.answered(method, self.seed), self.seed, "test")}
        except Exception as error:
            return {"failed": reason_of(error)}
