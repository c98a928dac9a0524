"""The pieces of the benchmark: training, tuning a method, letting it answer, reading references.

Base and oracles of a seed come from the recipe with that seed. A method is tuned on the base of the
first seed and on validation rows alone, against the mean of the oracles; it is then run on every
seed and read on test rows, as it comes and matched at equal retained accuracy.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from expunge import registry
from expunge.aggregation.sum import Sum
from expunge.audit.case import described, digest_of_rooms, reason_of
from expunge.audit.gap import Scores
from expunge.audit.kept_models import KeptModels
from expunge.audit.matching import Level, matched
from expunge.audit.tuning import Evaluation, Trials
from expunge.benchmarks.classification.rows import (
    MOST,
    MOST_RELEARNED,
    MOST_VECTORS,
    RELEARNING,
    Answers,
    Asked,
    Figures,
    anamnesis,
    gap,
    relearning,
    share_right,
    watched,
    zrf,
)
from expunge.benchmarks.classification.worlds import Kind, World, world
from expunge.benchmarks.jobs import Result, key_of
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.methods.presets import AtPreset, HasPreset, fields_of, preset_of
from expunge.methods.protocol import Method, missing, unlearn
from expunge.methods.search import Space, WholeNumber, space_of
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.run import Run
from expunge.signals.accuracy import ACCURACY
from expunge.signals.ask import predict

AVERAGED = ("UA", "RA", "TA", "LR-MIA")
"""The figures whose mean distance to the oracle is the average gap."""

TOLERANCE = 0.02
"""What a matched method may lose of the original's accuracy on other validation rows."""

RELEARNED_BY = (
    "attacks/relearning.py",
    "audit/anamnesis.py",
    "audit/relearning.py",
    "benchmarks/classification/rows.py",
)
"""Files that decide how fast a model is seen to relearn."""

SHARE = 1 / 3
"""Rows that a method may pass over, as a share of those that retraining passes over."""


@dataclass(frozen=True)
class Place:
    """Where a job stands: the world with its digest, a request, the benchmark's folder."""

    world: str
    digest: str
    folder: Path

    def facts(self) -> dict[str, object]:
        """What a result depends on: the world, and the code that trains."""
        return {
            "world": self.world,
            "digest": self.digest,
            "learning": digest_of_rooms(("descent", "learning")),
        }

    @property
    def room(self) -> World:
        """The world itself."""
        return world(self.world)


@dataclass(frozen=True)
class Training:
    """Train the base (without a request), or the oracle of a request."""

    place: Place
    kind: Kind | None
    seed: int

    @property
    def title(self) -> str:
        """World, what is trained, seed."""
        what = "base" if self.kind is None else f"oracle of {self.kind}"
        return f"{self.place.world}: {what}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, request, seed."""
        request = None if self.kind is None else self.place.room.request(self.kind).digest()
        return {**self.place.facts(), "request": request, "seed": self.seed}

    def done(self) -> Result:
        """Train and keep the model."""
        recipe, data = self._task()  # what is read for it is no part of the training
        start = time.process_time()
        model = recipe.make(data, Run(self.seed)).model
        seconds = time.process_time() - start
        KeptModels(self._folder).get(key_of(self), model, lambda: model)
        return {"seconds": seconds, "model": digest_of(model)}

    def model(self) -> nn.Module:
        """The kept model; trained again where its file is gone."""
        untrained = self.place.room.recipe.builder(self.seed)
        return KeptModels(self._folder).get(key_of(self), untrained, self._made)[0]

    @property
    def _folder(self) -> Path:
        return self.place.folder / "models"

    def _made(self) -> nn.Module:
        recipe, data = self._task()
        return recipe.make(data, Run(self.seed)).model

    def _task(self) -> tuple[Recipe, dict[Role, Samples]]:
        """The recipe of the seed, and the rows that it sees."""
        room = self.place.room
        train = room.train
        if self.kind is not None:
            forget = {*asked_on_validation(self.place.world, self.kind).forget.ids}
            kept = [place for place, name in enumerate(train.ids) if name not in forget]
            train = train.select(torch.tensor(kept))
        return room.recipe.with_seed(self.seed), {Role.TRAIN: train}


@dataclass(frozen=True)
class Asking:
    """A request in a world, and the seeds of the models that it is asked on."""

    place: Place
    kind: Kind
    seeds: tuple[int, ...]

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        room = self.place.room
        asked = {"request": room.request(self.kind).digest(), "shown": room.shown}
        most = {"rows": dict(MOST), "vectors": MOST_VECTORS, "tolerance": TOLERANCE, "share": SHARE}
        return {**self.place.facts(), **asked, **most, "seeds": list(self.seeds)}

    def facts_of_relearning(self) -> dict[str, object]:
        """The same of a result that tells how fast models relearn."""
        setting = [described(RELEARNING), MOST_RELEARNED, digest_of_rooms(RELEARNED_BY)]
        return {**self.facts(), "relearning": setting}

    def base(self, seed: int) -> nn.Module:
        """The base of a seed."""
        return Training(self.place, None, seed).model()

    def oracles(self) -> list[nn.Module]:
        """One oracle a seed."""
        return [Training(self.place, self.kind, seed).model() for seed in self.seeds]

    def problem(self, base: nn.Module, seed: int, method: Method) -> Problem:
        """What a method sees of the request on a base."""
        room = self.place.room
        deployment = Deployment(
            base,
            room.family,
            room.train,
            room.train_table,
            Sum(),
            recipe=room.recipe.with_seed(seed),
        )
        problem = deployment.problem(room.request(self.kind), method)
        asked = asked_on_validation(self.place.world, self.kind)
        return replace(problem, data=asked.shown(problem))


@cache
def asked_on_validation(name: str, kind: Kind) -> Asked:
    """The rows of a request in a world, with validation rows."""
    return Asked.of(world(name), kind, "validation")


@cache
def asked_on_test(name: str, kind: Kind) -> Asked:
    """The rows of a request in a world, with test rows."""
    return Asked.of(world(name), kind, "test")


def space_within(kind: type, room: World, asked: Asked) -> Space:
    """The search space of a method, its epochs cut to what may be passed over in a third of the
    recipe's time."""
    space = space_of(kind)
    learner: Any = room.recipe.learner
    rows = len(asked.forget) + len(asked.retain)
    most = max(1, int(SHARE * learner.epochs * len(room.train) / rows))
    epochs = space.ranges.get("epochs")
    if not isinstance(epochs, WholeNumber) or epochs.high <= most:
        return space
    if most == 1:  # nothing is left to vary
        ranges = {n: r for n, r in space.ranges.items() if n != "epochs"}
        return replace(space, ranges=ranges, defaults={n: space.defaults[n] for n in ranges})
    default = min(int(str(space.defaults["epochs"])), most)
    return replace(
        space,
        ranges={**space.ranges, "epochs": WholeNumber(epochs.low, most)},
        defaults={**space.defaults, "epochs": default},
    )


@dataclass(frozen=True)
class Tuning:
    """Tune one method on a request: the average gap on validation rows, the first seed's base."""

    asking: Asking
    method: str
    source: str
    trials: int

    @property
    def title(self) -> str:
        """World, request, method."""
        return f"{self.asking.place.world}: tune {self.method} on {self.asking.kind}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the method's code, the number of trials."""
        return {**self.asking.facts(), "method": self.method, "source": self.source} | {
            "trials": self.trials
        }

    def done(self) -> Result:
        """The best parameters, or that the preset was best; and what every trial gave."""
        kind, asking = registry.load("methods", self.method), self.asking
        place, seed = asking.place, asking.seeds[0]
        room, asked = place.room, asked_on_validation(place.world, asking.kind)
        base = asking.base(seed)
        problem = asking.problem(base, seed, kind())
        if lacks := missing(kind(), problem):
            return {"unfit": " and ".join(lack.clause for lack in lacks)}
        if self.trials == 0:
            return {"parameters": None, "preset": False, "trials": []}
        oracles = [
            Answers.of(room, asked, oracle, Run(seed)).quick() for oracle in asking.oracles()
        ]
        space = space_within(kind, room, asked)
        cut = "epochs" in space_of(kind).ranges.keys() - space.ranges.keys()
        fixed = {"epochs": 1} if cut else {}

        def made(parameters: Mapping[str, Any]) -> Method:
            method: Method = kind(**{**fixed, **parameters})
            return method

        def objective(method: Method) -> Evaluation:
            given = Answered.of(problem, method, seed)
            answers = Answers.of(room, asked, given.model, Run(seed))
            found = answers.quick()
            parts = {name: gap(found, oracles, (name,)) for name in AVERAGED}
            scores = Scores((), (), answers.accuracies.test)
            return Evaluation(fmean(parts.values()), parts, scores, given.seconds)

        trials = Trials(place.folder / "trials" / f"{key_of(self)}.db")
        preset = AtPreset.of(kind()) if isinstance(kind(), HasPreset) else None
        found = trials.tune(
            self.method, key_of(self), space, made, objective, self.trials, seed, preset=preset
        )
        best = found.best
        return {
            "parameters": None if best is None or best.preset else {**fixed, **best.parameters},
            "preset": best is not None and best.preset,
            "gap": None if best is None else best.gap,
            "trial": None if best is None else best.number,
            "trials": [
                {"parameters": {**fixed, **t.parameters}, "gap": t.gap, "reason": t.reason}
                | dict(t.figures)
                for t in found.trials
            ],
        }


@dataclass(frozen=True, eq=False)
class Answered:
    """The model after a method answered the request, and the processor seconds that it took.

    ``prepared`` are those of what a method prepares before any request comes.
    """

    model: nn.Module
    seconds: float
    prepared: float

    @classmethod
    def of(cls, problem: Problem, method: Method, seed: int) -> "Answered":
        """Prepare and unlearn, each with the access that the method declares.

        Raises:
            ExpungeError: the method answers with something else than new weights or a Delta.
        """
        run = Run(seed)
        start = time.process_time()
        with run.seeded(f"case {method.name}"):
            artifact = method.prepare(problem.opened(method.prepares_with), run)
            ready = time.process_time()
            outcome = unlearn(method, problem, run, artifact)
        end = time.process_time()
        return cls(outcome.applied_to(problem.model), end - ready, ready - start)


@dataclass(frozen=True)
class Answering:
    """Let one method answer on the base of one seed; ``parameters`` None stands for its preset."""

    asking: Asking
    method: str
    source: str
    seed: int
    parameters: tuple[tuple[str, Any], ...] | None

    @property
    def title(self) -> str:
        """World, request, method, setting, seed."""
        how = "preset" if self.parameters is None else "tuned"
        where = f"{self.asking.place.world}, {self.asking.kind}"
        return f"{where}: {self.method}, {how}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the method's code and parameters, the seed."""
        own = {"method": self.method, "source": self.source, "seed": self.seed}
        given = None if self.parameters is None else [list(pair) for pair in self.parameters]
        return {**self.asking.facts_of_relearning(), **own, "parameters": given}

    def done(self) -> Result:
        """Figures on test rows, as it comes and matched; or why there are none."""
        asking = self.asking
        kind = registry.load("methods", self.method)
        base = asking.base(self.seed)
        problem = asking.problem(base, self.seed, kind())
        try:
            start = time.process_time()
            if self.parameters is None:
                method = preset_of(kind(), problem, Run(self.seed))
            else:
                method = kind(**dict(self.parameters))
            fitting = time.process_time() - start
            given = Answered.of(problem, method, self.seed)
        except Exception as error:  # a method may fail in any way; the others go on
            return {"failed": reason_of(error)}
        reader = Reader(asking)
        comes = reader.figures(given.model, self.seed)
        try:
            relearned = reader.relearned(given.model, self.seed)
        except ExpungeError as error:  # what a method left may be past learning; nothing else fails
            warnings.warn(f"It could not be relearned: {reason_of(error)}", stacklevel=1)
            relearned = {}
        factor, at_level = reader.matched(base, given.model, method.sequential, self.seed)
        return {
            "parameters": fields_of(method),
            "seconds": given.seconds,
            "preparing seconds": given.prepared,
            "fitting seconds": fitting,
            "as it comes": {**comes, **relearned},
            "matched": at_level,
            "factor": factor,
        }


class Reader:
    """What models score on the test rows of a request."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._room = asking.place.room
        self._test = asked_on_test(asking.place.world, asking.kind)

    @property
    def oracles(self) -> list[Answers]:
        """The oracles' answers."""
        return _of_oracles(self._asking)

    def figures(self, model: nn.Module, seed: int) -> Figures:
        """Everything that one model answers."""
        answers = Answers.of(self._room, self._test, model, Run(seed))
        return self._of(answers, self.oracles, seed)

    def of_oracle(self, place: int) -> Figures:
        """Everything about one oracle; its distances are those to the other oracles."""
        others = [o for i, o in enumerate(self.oracles) if i != place]
        return self._of(self.oracles[place], others, self._asking.seeds[place])

    def _of(self, answers: Answers, oracles: Sequence[Answers], seed: int) -> Figures:
        of_zrf = zrf(self._room, self._test, answers, Run(seed))
        return {**answers.figures(), **of_zrf, **answers.distances(oracles)}

    def relearned(self, model: nn.Module, seed: int) -> Figures:
        """How fast a model relearns, beside the oracle of its seed.

        Raises:
            ExpungeError: it does not learn any more.
        """
        room, test, run = self._room, self._test, Run(seed)
        return self._index(relearning(room, test, model, run), [seed], seed)

    def relearned_of_oracle(self, place: int) -> Figures:
        """The same of one oracle, beside the other oracles, all relearned alike."""
        seeds = self._asking.seeds
        others = [seed for i, seed in enumerate(seeds) if i != place]
        return self._index(
            _relearning(self._asking, seeds[place], seeds[place]), others, seeds[place]
        )

    def _index(self, curve: Sequence[float], beside: Sequence[int], seed: int) -> Figures:
        oracles = [_relearning(self._asking, its, seed) for its in beside]
        original = watched(self._room, self._test, self._asking.base(seed), Run(seed))
        return anamnesis(curve, oracles, original)

    def matched(
        self, base: nn.Module, model: nn.Module, replaced: bool, seed: int
    ) -> tuple[float, Figures]:
        """The factor at which the level is just kept on validation rows, and the figures there."""
        rows = asked_on_validation(self._asking.place.world, self._asking.kind).others

        def retained(one: nn.Module) -> float:
            return share_right(predict(self._room.family, one, rows, Run(seed)))

        level = Level(ACCURACY, retained(base), TOLERANCE)
        factor, at_level = matched(base, model, retained, level, replaced=replaced)
        return factor, self.figures(at_level, seed)


@cache
def _of_oracles(asking: Asking) -> list[Answers]:
    """What the oracles of a request answer on test rows, asked once a process."""
    room, test = asking.place.room, asked_on_test(asking.place.world, asking.kind)
    return [
        Answers.of(room, test, oracle, Run(seed))
        for seed, oracle in zip(asking.seeds, asking.oracles(), strict=True)
    ]


@cache
def _relearning(asking: Asking, oracle: int, seed: int) -> list[float]:
    """How the oracle of seed ``oracle`` relearns in the order of ``seed``, once a process."""
    room, test = asking.place.room, asked_on_test(asking.place.world, asking.kind)
    model = Training(asking.place, asking.kind, oracle).model()
    return relearning(room, test, model, Run(seed))


@dataclass(frozen=True)
class References:
    """What the bases and the oracles of all seeds score on a request."""

    asking: Asking

    @property
    def title(self) -> str:
        """World and request."""
        return f"{self.asking.place.world}, {self.asking.kind}: originals and oracles"

    def depends_on(self) -> Mapping[str, object]:
        """The request."""
        return self.asking.facts_of_relearning()

    def done(self) -> Result:
        """Figures of each."""
        reader, asking = Reader(self.asking), self.asking
        bases = [(asking.base(seed), seed) for seed in asking.seeds]
        return {
            "originals": [
                {**reader.figures(base, seed), **reader.relearned(base, seed)}
                for base, seed in bases
            ],
            "oracles": [
                {**reader.of_oracle(place), **reader.relearned_of_oracle(place)}
                for place in range(len(asking.seeds))
            ],
        }
