"""The pieces of mini-TOFU: originals and oracles, and curves of methods over their epochs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from expunge import registry
from expunge.audit.case import described, digest_of_rooms, reason_of
from expunge.audit.kept_models import KeptModels
from expunge.benchmarks.jobs import Result, key_of
from expunge.benchmarks.tofu.battery import Battery, Figures, Known, quality
from expunge.benchmarks.tofu.world import ASKED, World
from expunge.changes.history import History
from expunge.errors import ExpungeError
from expunge.methods.protocol import ByDescent, Method, missing, unlearn
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

ROOMS = ("benchmarks/tofu", "data", "descent", "families", "learning", "models", "signals")
"""Rooms that results depend on, beside the method."""

ORACLES = (1, 2)
"""Seeds of the oracles; the original has seed 0."""


@dataclass(frozen=True)
class Place:
    """The world, and the benchmark's folder."""

    world: World
    folder: Path

    def facts(self) -> dict[str, object]:
        """What every result depends on."""
        return {"world": described(self.world), "code": digest_of_rooms(ROOMS)}


@dataclass(frozen=True)
class Asking:
    """A request: the share of the authors to forget, and which ones."""

    place: Place
    share: float
    part: str = ASKED

    @property
    def title(self) -> str:
        """In words."""
        return f"{100 * self.share:g} % of the authors{'' if self.part == ASKED else ', tuning'}"

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        return {**self.place.facts(), "share": self.share, "part": self.part}

    def oracles(self) -> list[nn.Module]:
        """One a seed."""
        return [Training(self.place, self, seed).model() for seed in ORACLES]

    def battery(self) -> Battery:
        """The questions."""
        return self.place.world.battery(self.share, self.part, Run())

    def problem(self, model: nn.Module) -> Problem:
        """What a method sees on a model."""
        world = self.place.world
        forget = world.rows(self.share, self.part)
        return Problem(
            model,
            world.family,
            Request(self.title, Rows("id", tuple(forget.ids))),
            {Role.FORGET: forget, Role.RETAIN: world.without(self.share, self.part)},
            History(),
            recipe=world.recipe,
        )


@dataclass(frozen=True)
class Training:
    """Train the original (without a request), or an oracle of a request."""

    place: Place
    asking: Asking | None
    seed: int

    @property
    def title(self) -> str:
        """What is trained, and its seed."""
        what = "original" if self.asking is None else f"oracle of {self.asking.title}"
        return f"{what}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, request, seed."""
        asked = None if self.asking is None else [self.asking.share, self.asking.part]
        return {**self.place.facts(), "asked": asked, "seed": self.seed}

    def done(self) -> Result:
        """Train and keep it; processor seconds."""
        start = time.process_time()
        made = self._made()
        seconds = time.process_time() - start
        self._kept().get(key_of(self), made, lambda: made)
        return {"seconds": seconds}

    def model(self) -> nn.Module:
        """The kept model; trained again where its file is gone."""
        untrained = self.place.world.recipe.builder(self.seed)
        return self._kept().get(key_of(self), untrained, self._made)[0]

    def _kept(self) -> KeptModels:
        return KeptModels(self.place.folder / "models")

    def _made(self) -> nn.Module:
        world, asking = self.place.world, self.asking
        rows = world.samples if asking is None else world.without(asking.share, asking.part)
        return world.recipe.with_seed(self.seed).make({Role.TRAIN: rows}, Run(self.seed)).model


@dataclass(frozen=True)
class References:
    """What the original and the oracles of a request score, and whether forgetting can be seen."""

    asking: Asking

    @property
    def title(self) -> str:
        """The request."""
        return f"{self.asking.title}: original and oracles"

    def depends_on(self) -> Mapping[str, object]:
        """The request."""
        return {**self.asking.facts(), "oracles": list(ORACLES)}

    def done(self) -> Result:
        """Figures of each, and the gate."""
        battery, oracles = self.asking.battery(), self.asking.oracles()
        original = Training(self.asking.place, None, 0).model()
        known = [battery.known(oracle) for oracle in oracles]
        of_original = battery.whole(original, known)
        return {
            "questions": len(battery.forget),
            "original": of_original,
            "oracles": [
                battery.whole(oracle, [other for other in known if other is not own])
                for oracle, own in zip(oracles, known, strict=True)
            ],
            "gate": {
                "oracle against oracle (log10 p)": quality(known[0].ratios, known[1:])[
                    "forget quality (log10 p)"
                ],
                "original against oracle (log10 p)": of_original["forget quality (log10 p)"],
            },
        }


@dataclass(frozen=True)
class Answering:
    """Let a method answer a request on the original, and look at it after its epochs."""

    asking: Asking
    method: str
    source: str
    rate: float
    epochs: int
    looks: int

    @property
    def title(self) -> str:
        """Request, method, learning rate."""
        return f"{self.asking.title}: {self.method} at {self.rate:g}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the method's code and fields, how often it is looked at."""
        own = {"method": self.method, "source": self.source, "rate": self.rate}
        return {**self.asking.facts(), **own, "epochs": self.epochs, "looks": self.looks}

    def done(self) -> Result:
        """A point after each looked-at epoch, all figures at the end; or why there are none."""
        method = made(self.method, self.rate, self.epochs)
        problem = self.asking.problem(Training(self.asking.place, None, 0).model())
        battery = self.asking.battery()
        oracles = _known(self.asking)
        curve: list[dict[str, Any]] = []
        looking = 0.0

        def look(epoch: int, model: nn.Module) -> None:
            nonlocal looking
            start = time.process_time()
            curve.append({"epoch": epoch, **battery.read(model, oracles)})
            looking += time.process_time() - start

        start = time.process_time()
        try:
            model = followed(method, problem, Run(), self.looks, look)
            seconds = time.process_time() - start - looking
            final = battery.whole(model, oracles)
        except Exception as error:  # a method may fail in any way; the others go on
            return {"failed": reason_of(error), "curve": curve}
        return {"curve": curve, "final": final, "seconds": seconds}


def made(name: str, rate: float, epochs: int) -> Method:
    """A registered method at a learning rate, with this many passes over the forget set."""
    fields: dict[str, Any] = {"learning_rate": rate, "epochs": epochs}
    method: Method = registry.load("methods", name)(**fields)
    return method


def followed(method: Method, problem: Problem, run: Run, looks: int, look: Any) -> nn.Module:
    """The model after a method answered, looked at ``looks`` times on the way.

    Methods that end where their descent does are looked at after epochs, the last of them included;
    of others only the end can be seen.
    """
    epochs = int(getattr(method, "epochs", 1))
    if not isinstance(method, ByDescent):
        model = unlearn(method, problem, run).applied_to(problem.model)
        look(epochs, model)
        return model
    for lack in missing(method, problem):
        raise ExpungeError(lack.sentence)
    descent = method.descent()
    steps = descent.length.steps(lambda role: len(problem.data[role]), descent.batch_size)
    ends = [round((place + 1) * epochs / looks) for place in range(looks)]
    at = {steps * epoch // epochs: epoch for epoch in ends if epoch}

    def seen(step: int, model: nn.Module) -> None:
        if step in at:
            look(at[step], model)

    opened = problem.opened(method.unlearns_with)
    return descent.minimise(opened, run, each=seen).model


def fitting(problem: Problem) -> dict[str, str]:
    """Registered methods with a learning rate and epochs: empty text, or why one cannot be run."""
    found = {}
    for name in registry.names("methods"):
        kind = registry.load("methods", name)
        fields = getattr(kind, "__dataclass_fields__", {})
        if not {"learning_rate", "epochs"} <= set(fields):
            continue
        try:
            lacks = missing(kind(), problem)
        except Exception as error:  # it cannot be asked what it needs
            found[name] = reason_of(error)
            continue
        found[name] = " and ".join(lack.clause for lack in lacks)
    return found


@cache
def _known(asking: Asking) -> Sequence[Known]:
    """The oracles' truth ratios, asked once a process."""
    battery = asking.battery()
    return [battery.known(oracle) for oracle in asking.oracles()]


def distance(final: Figures, oracles: Sequence[Figures]) -> float:
    """How far a model is from the mean of the oracles: the mean distance in forget truth ratio,
    forget ROUGE and model utility. Learning rates are chosen by it, on other authors."""
    apart = []
    for name in ("forget truth ratio", "forget ROUGE", "model utility"):
        level = [oracle[name] or 0.0 for oracle in oracles]
        apart.append(abs((final[name] or 0.0) - sum(level) / len(level)))
    return sum(apart) / len(apart)


def at_part(asking: Asking, part: str) -> Asking:
    """The request of the same size on the authors of another part."""
    return replace(asking, part=part)
