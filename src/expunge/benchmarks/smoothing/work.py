"""The pieces of the benchmark: answering at the preset and at one level, and being relearned.

A result holds what was measured of one model; forms are held against each other where results come
together.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.attacks.relearning import Relearning
from expunge.audit.case import digest_of_rooms, reason_of
from expunge.benchmarks.facts.work import Training, right_about
from expunge.benchmarks.facts.world import CODE, Place, World
from expunge.benchmarks.jobs import Result
from expunge.benchmarks.smoothing.forms import Form
from expunge.benchmarks.smoothing.level import LogProbability, Stopped, searched, stopped
from expunge.data.samples import TensorSamples
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Setting, StepGradients
from expunge.descent.sequence_terms import NegativePreference
from expunge.descent.transforms import norm
from expunge.errors import ExpungeError
from expunge.methods.npo import NPORetain
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import ask

RADII = (0.01, 0.1)
"""Distances at which sharpness is taken: the paper's, and a larger one."""


@dataclass(frozen=True)
class Attack:
    """Fine-tuning on the facts about some of the forgotten people, all of them in every step.

    Args:
        people: about how many, the first ones; what is known of the others is asked, too.
        learning_rate: of AdamW, from a fresh state.
        steps: of it.
    """

    people: int
    learning_rate: float
    steps: int = 30


@dataclass(frozen=True)
class Stage:
    """Where all jobs stand.

    Args:
        place: the world, and the benchmark's folder.
        seed: of the base, of the oracle and of every descent.
        attacks: by which models are relearned.
        descents: at most, in the search for the level.
    """

    place: Place
    seed: int
    attacks: tuple[Attack, ...]
    descents: int = 5

    @property
    def title(self) -> str:
        """Draw and seed."""
        return f"draw {self.place.draw}, seed {self.seed}"

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        code = digest_of_rooms((*CODE, "methods", "benchmarks/facts", "benchmarks/smoothing"))
        attacks = [asdict(attack) for attack in self.attacks]
        own = {"code": code, "seed": self.seed, "attacks": attacks, "descents": self.descents}
        return {**self.place.facts(), **own}

    def trained(self, *, oracle: bool) -> Training:
        """The training of the base, or of the oracle."""
        return Training(self.place, self.place.size.corner if oracle else 0, self.seed)

    def problem(self, base: nn.Module) -> Problem:
        """The request on the base."""
        world = self.place.world
        return world.deployment(base, self.seed).problem(world.corner(), NPORetain())


@dataclass(frozen=True)
class Describing:
    """What the base and the oracle answer, and how they are relearned."""

    stage: Stage
    oracle: bool

    @property
    def title(self) -> str:
        """Stage and model."""
        return f"{self.stage.title}: {'oracle' if self.oracle else 'base'} relearned"

    def depends_on(self) -> Mapping[str, object]:
        """The stage and the model."""
        return {**self.stage.facts(), "oracle": self.oracle}

    def done(self) -> Result:
        """Its figures."""
        base = self.stage.trained(oracle=False).model()
        model = self.stage.trained(oracle=True).model() if self.oracle else base
        return figures(self.stage, base, model)


@dataclass(frozen=True)
class Answering:
    """Let one form forget the people at its preset, or as far as the oracle never knew them."""

    stage: Stage
    form: Form
    at_level: bool

    @property
    def title(self) -> str:
        """Stage and form."""
        how = "at the level" if self.at_level else "at its preset"
        return f"{self.stage.title}: {self.form.name}, {how}"

    def depends_on(self) -> Mapping[str, object]:
        """The stage and all of the form."""
        return {**self.stage.facts(), "form": repr(self.form), "at level": self.at_level}

    def done(self) -> Result:
        """Figures and cost, or why there are none."""
        base = self.stage.trained(oracle=False).model()
        try:
            return self._stopped(base) if self.at_level else self._preset(base)
        except ExpungeError as error:
            return {"refused": reason_of(error)}

    def _preset(self, base: nn.Module) -> Result:
        problem = self.stage.problem(base)
        descent = self.form.at_preset(problem).descent()
        ended = descent.minimise(problem, Run(self.stage.seed))
        cost = {"steps": ended.steps, "rows": self._rows(descent, ended.steps)}
        return {**figures(self.stage, base, ended.model), **cost}

    def _stopped(self, base: nn.Module) -> Result:
        problem, asked = self.stage.problem(base), likelihood(self.stage.place.world)
        level = asked(self.stage.trained(oracle=True).model())

        def descended(weight: float) -> Stopped:
            descent = self.form.weighed(problem, weight).descent()
            run = Run(self.stage.seed)
            return stopped(descent, problem, run, asked, level, self.form.average)

        found = searched(descended, self.form.retain_weight, self.stage.descents)
        assert found.stop.model is not None
        descent = self.form.weighed(problem, found.retain_weight).descent()
        return {
            **figures(self.stage, base, found.stop.model),
            "steps": found.stop.steps,
            "rows": self._rows(descent, math.ceil(found.stop.steps)),
            "retain weight": found.retain_weight,
            "tried": [list(one) for one in found.tried],
        }

    def _rows(self, descent: Descent, steps: int) -> int:
        """Rows whose gradient is taken in a number of steps."""
        [player] = descent.players
        assert player.retain is not None
        retain_rows = player.retain.batch_size or descent.batch_size
        return self.form.differentiated(steps, descent.batch_size, retain_rows)


def likelihood(world: World) -> LogProbability:
    """The mean log-probability of the answer tokens of the forgotten facts, in the phrasings that
    everybody was trained with."""
    train = world.train
    forget = train.select(world.about(train, 0, world.size.corner))
    same = world.alike(forget)
    return lambda model: -float(_asked(world, model, same, "loss").mean())


def figures(stage: Stage, base: nn.Module, model: nn.Module) -> dict[str, Any]:
    """What a model answers, how sharply the forget term bends around it, and its relearning."""
    world, run = stage.place.world, Run(stage.seed)
    forget, retain = right_about(world, model, world.size.corner, run)
    others = world.paraphrases
    kept = others.select(world.about(others, world.size.corner, world.size.people))
    return {
        "log probability": likelihood(world)(model),
        "forget": forget,
        "retain": retain,
        "retain paraphrase": float(_asked(world, model, kept, "correct").mean()),
        "sharpness": [sharpness(stage.problem(base), model, run, radius) for radius in RADII],
        "attacks": [asdict(a) | relearned(world, model, a, run) for a in stage.attacks],
    }


def relearned(world: World, model: nn.Module, attack: Attack, run: Run) -> dict[str, Any]:
    """Curves over steps, the first value before any: of the ``shown`` facts the share answered, of
    those ``held`` back the share answered and the mean probability of an answer's tokens
    (``exp`` of the mean log-probability, the mean over facts)."""
    train = world.train
    facts = world.once(train.select(world.about(train, 0, world.size.corner)))
    rows = world.about(facts, 0, attack.people)

    def look(present: nn.Module) -> tuple[float, float, float]:
        signals = ask(world.family, present, facts, run)
        right, loss = (signals.query(query)[0] for query in ("correct", "loss"))
        return (
            float(right[rows].mean()),
            float(right[len(rows) :].mean()),
            float((-loss[len(rows) :]).exp().mean()),
        )

    relearning = Relearning(attack.steps, len(rows), AdamW(attack.learning_rate))
    found = relearning.followed(model, world.family, facts.select(rows), look, run)
    shown, held, probability = (list(curve) for curve in zip(*found, strict=True))
    return {"shown": shown, "held": held, "held probability": probability}


def sharpness(problem: Problem, model: nn.Module, run: Run, radius: float) -> float:
    """How much the forget term (NPO at its default) of the whole request rises uphill.

    ``L(w + radius g / |g|) - L(w)`` with the gradient ``g``: to first order the most that it rises
    within the radius.
    """
    term, samples = NegativePreference(), problem.data[Role.FORGET]
    setting = Setting(problem, {"model": model}, lambda: problem.model, run)
    prepared = term.start(setting, samples)
    batch = samples.batch(torch.arange(len(samples)))
    parameters = tuple(model.parameters())
    needed = [p.requires_grad for p in parameters]

    def value() -> Tensor:
        return term.value(setting, batch, prepared)

    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        at = StepGradients(parameters, {"forget": value}, (None,) * len(parameters))
        uphill, before = at.total(), float(value().detach())
        length = float(norm(uphill))
        if length == 0:
            return 0.0
        with at.moved(uphill, radius / length):
            return float(value().detach()) - before
    finally:
        for parameter, was in zip(parameters, needed, strict=True):
            parameter.requires_grad_(was)


def _asked(world: World, model: nn.Module, samples: TensorSamples, query: str) -> Tensor:
    return ask(world.family, model, samples, Run()).query(query)[0]
