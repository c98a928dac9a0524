"""The pieces of the benchmark: models, strengths chosen on validation persons, answers.

A result holds what was measured of one model; models are held against oracles where results come
together.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from torch import nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import reason_of, source_of
from expunge.audit.kept_models import KeptModels
from expunge.benchmarks.classification.rows import Figures, gap, share_right
from expunge.benchmarks.classification.work import TOLERANCE, Answered
from expunge.benchmarks.identity.forms import MULTIPLES, Form, form
from expunge.benchmarks.identity.worlds import Source, World, world
from expunge.benchmarks.jobs import Result, key_of
from expunge.changes.weights import digest_of
from expunge.deployment import Deployment
from expunge.methods.protocol import Method
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.accuracy import mean_loss, top_k_accuracy
from expunge.signals.ask import predict
from expunge.signals.membership import cross_validated_mia
from expunge.signals.membership_features import loss
from expunge.signals.nomus import nomus

Part = Literal["validation", "test"]

JUDGED = ("a", "forget", "accuracy")
"""Figures whose mean distance to the oracles says which strength is best: the attack, the accuracy
on those to be forgotten, the accuracy on others."""


@dataclass(frozen=True)
class Place:
    """Where all jobs of one split stand.

    Args:
        source: the world.
        folder: of the benchmark.
        seeds: of the models, one oracle each.
    """

    source: Source
    folder: Path
    seeds: tuple[int, ...]

    @property
    def room(self) -> World:
        """The world itself."""
        return world(self.source, self.folder)

    @property
    def title(self) -> str:
        """World and draw."""
        return f"{self.source.name}, draw {self.source.draw}"

    def facts(self) -> dict[str, object]:
        """What a model depends on beside its seed: the world, and the code that trains and asks."""
        return {"digest": self.room.digest, "code": source_of(Place)}

    def problem(self, base: nn.Module, seed: int, method: Method) -> Problem:
        """What a method sees."""
        room = self.room
        deployment = Deployment(
            base,
            room.family,
            room.people.train,
            room.people.table,
            Sum(),
            recipe=room.recipe.with_seed(seed),
        )
        return deployment.problem(room.people.request, method)

    def oracles(self, part: Part) -> list[Figures]:
        """The figures of all retrained models."""
        return [
            figures(self.room, Training(self, seed, oracle=True).model(), seed, part)
            for seed in self.seeds
        ]


def figures(room: World, model: nn.Module, seed: int, part: Part) -> dict[str, float | None]:
    """What a model scores.

    On ``test`` the task is measured on test persons and the attack takes unseen ones for strangers;
    on ``validation`` the validation persons are both.

    Args:
        room: the world.
        model: the model.
        seed: of the run.
        part: whose rows are held out.
    """
    people, run = room.people, Run(seed)
    held, strangers = people.test, people.unseen
    if part == "validation":
        assert people.validation is not None
        held = strangers = people.validation
    asked = {"forget": people.forget, "retain": people.retain, "held": held, "unseen": strangers}
    found = {
        name: predict(room.family, model, samples, run)
        for name, samples in asked.items()
        if part == "test" or name != "retain"
    }
    attack = float(cross_validated_mia(found["forget"], found["unseen"], loss)[0])
    accuracy = share_right(found["held"])
    top_2 = float(top_k_accuracy(found["held"].signals(), 2)[0]) if room.classes > 2 else None
    return {
        "accuracy": accuracy,
        "top-2": top_2,
        "a": attack,
        "deviation": abs(attack - 0.5),
        "NoMUS": nomus(accuracy, attack),
        "forget": share_right(found["forget"]),
        "unseen": share_right(found["unseen"]),
        "retain": share_right(found["retain"]) if "retain" in found else None,
        "forget loss": float(mean_loss(found["forget"].signals())[0]),
        "unseen loss": float(mean_loss(found["unseen"].signals())[0]),
    }


@dataclass(frozen=True)
class Training:
    """Train the original, or the oracle, which never sees those to be forgotten."""

    place: Place
    seed: int
    oracle: bool

    @property
    def title(self) -> str:
        """Place, model, seed."""
        what = "retrained" if self.oracle else "original"
        return f"{self.place.title}: {what}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, model, seed."""
        return {**self.place.facts(), "oracle": self.oracle, "seed": self.seed}

    def done(self) -> Result:
        """Train and keep it; its figures, and processor seconds."""
        _ = self.place.room  # what is read for it is no part of the training
        start = time.process_time()
        made = self._made()
        seconds = time.process_time() - start
        model = KeptModels(self._folder).get(key_of(self), made, lambda: made)[0]
        found = figures(self.place.room, model, self.seed, "test")
        return {"figures": found, "seconds": seconds, "model": digest_of(model)}

    def model(self) -> nn.Module:
        """The kept model; trained again where its file is gone."""
        untrained = self.place.room.recipe.builder(self.seed)
        return KeptModels(self._folder).get(key_of(self), untrained, self._made)[0]

    @property
    def _folder(self) -> Path:
        return self.place.folder / "models"

    def _made(self) -> nn.Module:
        room = self.place.room
        rows = room.people.retain if self.oracle else room.people.train
        run = Run(self.seed)
        return room.recipe.with_seed(self.seed).make({Role.TRAIN: rows}, run).model


@dataclass(frozen=True)
class Answering:
    """Let one form answer on the original of one seed."""

    place: Place
    form: str
    seed: int
    multiple: float = 1.0

    @property
    def title(self) -> str:
        """Place, form, strength, seed."""
        strength = "" if self.multiple == 1 else f", {self.multiple:g} times its rate"
        return f"{self.place.title}: {self.form}{strength}, seed {self.seed}"

    @property
    def made(self) -> Form:
        """The form."""
        return form(self.form, self.place.room.last)

    def depends_on(self) -> Mapping[str, object]:
        """The original, the form and its strength."""
        own = {"seed": self.seed, "multiple": self.multiple, "form": self.form}
        return {**self.place.facts(), **self.made.facts(), **own}

    def done(self) -> Result:
        """Figures on test persons and processor seconds, or why there are none."""
        try:
            model, seconds = self.answered()
        except Exception as error:  # a method may fail in any way; the others go on
            return {"failed": reason_of(error)}
        found = figures(self.place.room, model, self.seed, "test")
        return {"figures": found, "seconds": seconds}

    def answered(self) -> tuple[nn.Module, float]:
        """The model after the form answered, and processor seconds with those of its preset.

        Raises:
            ExpungeError: the preset finds no fields, or the weights are no longer finite.
        """
        base, given = Training(self.place, self.seed, oracle=False).model(), self.made
        problem = self.place.problem(base, self.seed, given.method)
        start = time.process_time()
        method = given.made(self.multiple, problem, Run(self.seed))
        fitting = time.process_time() - start
        answer = Answered.of(problem, method, self.seed)
        return answer.model, fitting + answer.seconds + answer.prepared


@dataclass(frozen=True)
class Tuning:
    """Choose the strength of a form on validation persons, on the original of the first seed."""

    place: Place
    form: str

    @property
    def title(self) -> str:
        """Place and form."""
        return f"{self.place.title}: strength of {self.form}"

    def depends_on(self) -> Mapping[str, object]:
        """The form, the strengths, the oracles."""
        own = Answering(self.place, self.form, self.place.seeds[0]).depends_on()
        return {
            **own,
            "multiples": MULTIPLES,
            "seeds": self.place.seeds,
            "judged": [*JUDGED, TOLERANCE],
        }

    def done(self) -> Result:
        """The multiple that ends nearest to the oracles among those that keep the task as well as
        retraining does, to two points; where none does, the smallest."""
        place, seed = self.place, self.place.seeds[0]
        oracles = place.oracles("validation")
        level = fmean(_value(oracle, "accuracy") for oracle in oracles) - TOLERANCE
        tried: list[dict[str, Any]] = []
        for multiple in MULTIPLES:
            answering = Answering(place, self.form, seed, multiple)
            try:
                found = figures(place.room, answering.answered()[0], seed, "validation")
            except Exception as error:
                tried.append({"multiple": multiple, "failed": reason_of(error)})
                continue
            kept = _value(found, "accuracy") >= level
            far = gap(found, oracles, JUDGED)
            tried.append({"multiple": multiple, "gap": far, "keeps": kept, "figures": found})
        keeping = [trial for trial in tried if trial.get("keeps")]
        best = min(keeping, key=lambda trial: float(trial["gap"]), default=None)
        chosen = MULTIPLES[0] if best is None else best["multiple"]
        return {"tried": tried, "multiple": chosen, "kept": best is not None}


def _value(found: Figures, name: str) -> float:
    value = found[name]
    assert value is not None
    return value


def distances(found: Figures, oracles: Sequence[Figures]) -> dict[str, float]:
    """How far a model is from the mean of oracles: in each judged figure, and on average."""
    parts = {f"{name} to the oracles": gap(found, oracles, (name,)) for name in JUDGED}
    return {**parts, "gap": fmean(parts.values())}
