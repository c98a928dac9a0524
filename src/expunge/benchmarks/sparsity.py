"""Does the gap to retraining shrink with sparsity? Prune, unlearn, and hold it against oracles.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023). Model Sparsity Can Simplify Machine Unlearning.
A model is pruned at several sparsities; each method answers on each, its strength set on validation
rows once for every method, sparsity and request among equally many. The gap is the mean distance of
UA, RA, TA and the paper's MIA (support vectors on confidence) on test rows to the mean of the
oracles: to the sparse oracles, which were retrained under the same masks without the rows (the
paper's reference), and to the dense ones.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import described, reason_of
from expunge.benchmarks.classification.rows import Answers, Asked, Figures
from expunge.benchmarks.classification.worlds import Kind, World, drawn, world
from expunge.benchmarks.jobs import Result, Some, Told, conducted, key_of
from expunge.changes.delta import Delta
from expunge.changes.kinds import Replacement
from expunge.changes.weights import load_stored, stored_tensors
from expunge.deployment import Deployment
from expunge.errors import ExpungeError, IntegrityError
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

SPARSEST = ("one-shot 95 %", "iterative 96 %", "SynFlow 95 %")
"""What is held against the dense model in the verdict."""

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
"""The methods of the paper; six strengths each."""

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
        return {**self.place.facts(), "kind": self.kind, "seed": self.seed}

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
        [change] = outcome.changes
        assert isinstance(change, Replacement)
        return Trained(change.applied_to(base.model), base.record)


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

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        own = {"kind": self.kind, "seeds": list(self.seeds), "figures": list(AVERAGED)}
        return {**self.place.facts(), **own}

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
        [change] = outcome.changes
        if not isinstance(change, Delta | Replacement):
            raise ExpungeError(
                f"{method.name} answered with a {type(change).__name__}; new weights or a Delta "
                "are expected by this benchmark."
            )
        return change.applied_to(base.model)


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
        own = described(SUBJECTS[self.method])
        return {**self.asking.facts(), "method": own, "source": self.source}

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
                found = gap(asking.read(model, asking.seeds[0], "validation"), oracles)
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
        return {
            **self.asking.place.facts(),
            "kind": self.asking.kind,
            "figures": list(AVERAGED),
            "method": own,
            "source": self.source,
            "seed": self.seed,
        }

    def done(self) -> Result:
        """Figures on test rows; or why there are none."""
        asking = self.asking
        method = SUBJECTS[self.method].at(self.strength, asking.place.training)
        try:
            return {"figures": asking.read(asking.answered(method, self.seed), self.seed, "test")}
        except Exception as error:
            return {"failed": reason_of(error)}


def gap(found: Figures, oracles: Sequence[Figures], names: Sequence[str] = AVERAGED) -> float:
    """Mean distance of the named figures to the mean of the oracles."""
    return fmean(
        abs(_number(found[name]) - fmean(_number(oracle[name]) for oracle in oracles))
        for name in names
    )


def _number(value: float | None) -> float:
    assert value is not None
    return value


@dataclass(frozen=True)
class Form:
    """A world, and what is compared in it unless another choice is made."""

    world: str
    pruners: tuple[str, ...]
    methods: tuple[str, ...]


QUICK = Form(
    "digits",
    (DENSE, "one-shot 80 %", "one-shot 95 %", "iterative 96 %", "SynFlow 95 %"),
    tuple(SUBJECTS),
)

FULL = Form(
    "clothes-10k",
    tuple(PRUNERS),
    tuple(name for name in SUBJECTS if name != "fisher-forgetting"),
)
"""Without Fisher forgetting, which takes a gradient for every row and class."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        world: a name of :data:`ROOMS`.
        pruners: names of :data:`PRUNERS`, the dense model among them.
        methods: names of :data:`SUBJECTS`.
        seeds: number of seeds, and of oracles.
        processes: jobs that run at once.
    """

    folder: Path
    world: str = QUICK.world
    pruners: tuple[str, ...] = QUICK.pruners
    methods: tuple[str, ...] = QUICK.methods
    seeds: int = 3
    processes: int = 2

    def __post_init__(self) -> None:
        for given, known, what in (
            ((self.world,), ROOMS, "world"),
            (self.pruners, PRUNERS, "pruner"),
            (self.methods, SUBJECTS, "method"),
        ):
            for name in given:
                if name not in known:
                    raise ExpungeError(
                        f"There is no {what} {name!r} here; there are {', '.join(known)}."
                    )
        if DENSE not in self.pruners or self.seeds < 2:
            raise ExpungeError(
                f"The pruners {', '.join(self.pruners)} and {self.seeds} seeds were given; the "
                f"dense model among them and at least 2 seeds are expected."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        its, seeds = room(self.world), tuple(range(self.seeds))
        places = [Place(self.world, its.digest, self.folder, name) for name in self.pruners]
        asked = [Asking(place, kind, seeds) for place in places for kind in KINDS]
        bases = self._jobs([Training(p, None, seed) for p in places for seed in seeds], told)
        self._jobs([Training(a.place, a.kind, seed) for a in asked for seed in seeds], told)
        sources = {name: _source_of(SUBJECTS[name].method) for name in self.methods}
        tuned = self._jobs(
            [
                Tuning(a, name, source)
                for name, source in sources.items()
                for a in asked
                if a.place.pruner == DENSE or name not in ON_DENSE_ALONE
            ],
            told,
        )
        strengths = {(t.asking, t.method): result["strength"] for t, result in tuned.items()}
        dense = {
            (a.kind, name): found
            for (a, name), found in strengths.items()
            if a.place.pruner == DENSE
        }
        answers = self._jobs(
            [
                Answering(asking, name, sources[name], strength, seed)
                for (asking, name), own in strengths.items()
                for strength in dict.fromkeys([own, dense[asking.kind, name]])
                if strength is not None
                for seed in seeds
            ],
            told,
        )
        readings = self._jobs([Reading(a) for a in asked], told)

        def figures(asking: Asking, name: str, strength: float | None) -> list[Figures | None]:
            if strength is None:
                return [None] * len(seeds)
            return [
                answers[Answering(asking, name, sources[name], strength, seed)].get("figures")
                for seed in seeds
            ]

        requests: dict[str, Any] = {}
        for kind in KINDS:
            of_kind = [a for a in asked if a.kind == kind]
            [whole] = [readings[Reading(a)] for a in of_kind if a.place.pruner == DENSE]
            requests[kind] = {
                "request": its.request(kind).name,
                "forget rows": len(its.request(kind).target.rows(its.train_table)),
                "pruners": {
                    a.place.pruner: _of_pruner(
                        fmean(bases[Training(a.place, None, seed)]["sparsity"] for seed in seeds),
                        readings[Reading(a)],
                        whole["oracles"],
                        {
                            name: {
                                "strength": own,
                                "tried": tuned[Tuning(a, name, sources[name])]["tried"],
                                "figures": figures(a, name, own),
                                "at the dense strength": figures(a, name, dense[kind, name]),
                            }
                            for (where, name), own in strengths.items()
                            if where == a
                        },
                    )
                    for a in of_kind
                },
            }
        return {
            "world": self.world,
            "verdict": verdict(requests),
            "verdict without the attack": verdict(requests, "gap without the attack"),
            "about": its.about,
            "rows": {"train": len(its.train), "test": len(its.test)},
            "seeds": self.seeds,
            "strengths": {name: list(SUBJECTS[name].strengths) for name in self.methods},
            "requests": requests,
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        found = conducted(jobs, self.folder / "results", self.processes, told)
        return dict(zip(jobs, found, strict=True))


def _of_pruner(
    sparsity: float,
    reading: Result,
    dense: Sequence[Figures],
    methods: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """One pruner's part: every list holds a value a seed."""
    oracles: Sequence[Figures] = reading["oracles"]

    def gaps(
        figures: Sequence[Figures | None],
        others: Sequence[Figures],
        names: Sequence[str] = AVERAGED,
    ) -> list[float | None]:
        return [None if found is None else gap(found, others, names) for found in figures]

    return {
        "sparsity": sparsity,
        "originals": reading["originals"],
        "oracles": oracles,
        "gap among oracles": [
            gap(one, [other for place, other in enumerate(oracles) if place != own])
            for own, one in enumerate(oracles)
        ],
        "gap of the originals": gaps(reading["originals"], oracles),
        "methods": {
            name: {
                **found,
                "gap": gaps(found["figures"], oracles),
                "gap without the attack": gaps(found["figures"], oracles, ACCURACIES),
                "gap to the dense oracles": gaps(found["figures"], dense),
                "gap at the dense strength": gaps(found["at the dense strength"], oracles),
            }
            for name, found in methods.items()
        },
    }


def verdict(requests: Mapping[str, Any], key: str = "gap") -> dict[str, Any]:
    """Whether gaps are smaller on pruned models than on the dense one, seed by seed.

    A cell is a request, a method and a pruned model; its gap shrinks or grows where it does so in
    every seed. The claim is judged on :data:`SPARSEST`: reproduced where more than half of their
    cells shrink, contradicted where more grow than shrink. ``by pruner`` counts all models; ``key``
    names the gap.
    """
    cells: list[dict[str, Any]] = []
    for kind, its in requests.items():
        dense = its["pruners"][DENSE]["methods"]
        for pruner, one in its["pruners"].items():
            for name, found in one["methods"].items():
                pairs = list(zip(dense[name][key], found[key], strict=True))
                if pruner != DENSE and not any(None in pair for pair in pairs):
                    less = [before - after for before, after in pairs]
                    where = {"request": kind, "pruner": pruner, "method": name}
                    cells.append({**where, "less": less, "way": _way(less)})
    judged = _counts([cell for cell in cells if cell["pruner"] in SPARSEST])
    said = "not reproduced"
    if judged["grows"] > judged["shrinks"]:
        said = "contradicted"
    elif 2 * judged["shrinks"] > sum(judged.values()):
        said = "reproduced"
    names = dict.fromkeys(cell["pruner"] for cell in cells)
    by = {name: _counts([cell for cell in cells if cell["pruner"] == name]) for name in names}
    return {"verdict": said, **judged, "by pruner": by, "cells": cells}


def _way(less: Sequence[float]) -> str:
    if all(value > 0 for value in less):
        return "shrinks"
    return "grows" if all(value < 0 for value in less) else "unclear"


def _counts(cells: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    ways = [cell["way"] for cell in cells]
    return {way: ways.count(way) for way in ("shrinks", "unclear", "grows")}


def _source_of(method: Method) -> str:
    """SHA-256 (hexadecimal) of the file of a method."""
    path = inspect.getsourcefile(type(method))
    return hashlib.sha256(Path(path).read_bytes() if path else b"").hexdigest()
