"""The work of the regression benchmark: train, retrain, choose a rate, let a method answer, read.

Every figure is read in standard deviations of the target; a model is read beside the oracles of all
seeds, and its relearning beside that of its own seed.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from torch import nn

from expunge.attacks.relearning import relearning_curve
from expunge.audit.case import described, reason_of, source_of
from expunge.benchmarks.jobs import Result, key_of
from expunge.benchmarks.regression.worlds import LEARNING_RATE, Part, World, world
from expunge.changes.history import History
from expunge.changes.weights import load_stored, stored_tensors
from expunge.data.samples import Samples
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.errors import IntegrityError
from expunge.families.abilities import Family
from expunge.methods.blindspot import Blindspot
from expunge.methods.fine_tune import FineTune
from expunge.methods.gaussian_amnesiac import GaussianAmnesiac
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.presets import preset_of
from expunge.methods.protocol import Method, unlearn
from expunge.problem import Problem
from expunge.recipe import Recipe, Record, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import svc_mia, wasserstein
from expunge.signals.ask import ask, errors_of, numbers_of
from expunge.signals.membership_features import absolute_error

RELEARNING = Descent(
    Player(others={"all": On(Role.TRAIN, Loss())}, optimiser=AdamW(LEARNING_RATE)),
    length=Epochs(10, of=Role.TRAIN),
    batch_size=256,
)
"""On all training rows, at the rate of the training, ten passes at most as in the paper."""

MOST_VECTORS = 500
"""Rows of each side that support vectors are fitted on; the paper takes 2,000."""

CHOSEN_BY = ("retain test", "forget test", "forget train")
"""The errors whose distance to the oracles decides on a rate."""

Figures = Mapping[str, Any]
"""The figures of one model by their names, as JSON values."""


class Subject(Protocol):
    """Something that answers a request."""

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates among which validation rows decide; none where it is taken as it is."""
        ...

    @property
    def method(self) -> Method:
        """The method that it is made of."""
        ...

    def answered(self, problem: Problem, run: Run, rate: float | None) -> nn.Module:
        """The model after the request."""
        ...


@dataclass(frozen=True)
class Unlearning:
    """A method.

    Args:
        method: with its fields.
        rates: as in :class:`Subject`.
        preset: take the preset of the method first, where it has rates.
    """

    method: Any
    rates: tuple[float, ...] = ()
    preset: bool = False

    def answered(self, problem: Problem, run: Run, rate: float | None) -> nn.Module:
        """The model that the method makes."""
        method: Any = preset_of(self.method, problem, run) if self.preset else self.method
        fitting = method if rate is None else replace(method, learning_rate=rate)
        return unlearn(fitting, problem, run).applied_to(problem.model)


@dataclass(frozen=True)
class TeacherAlone:
    """The partially exposed model of Blindspot's preset, in the place of the model."""

    method: Blindspot = field(default_factory=Blindspot)
    rates: tuple[float, ...] = ()

    def answered(self, problem: Problem, run: Run, rate: float | None) -> nn.Module:
        """The teacher."""
        fitting = preset_of(self.method, problem, run)
        assert isinstance(fitting, Blindspot)
        return fitting.teacher(problem, run)


SUBJECTS: Mapping[str, Subject] = {
    "fine-tune": Unlearning(FineTune(epochs=5), (1e-3, 3e-3, 1e-2)),
    "gradient-difference": Unlearning(GradientDifference(forget_weight=0.1), (3e-5, 1e-4, 3e-4)),
    "gaussian, published": Unlearning(GaussianAmnesiac()),
    "gaussian": Unlearning(GaussianAmnesiac(), (1e-4, 3e-4, 1e-3), preset=True),
    "blindspot, published": Unlearning(Blindspot()),
    "blindspot": Unlearning(Blindspot(), (3e-4, 1e-3, 3e-3), preset=True),
    "blindspot, no attention": Unlearning(
        Blindspot(attention=0.0), (3e-4, 1e-3, 3e-3), preset=True
    ),
    "teacher alone": TeacherAlone(),
}
"""What answers, with the rates among which validation rows decide: the published one, 1e-3, and two
beside it, lower ones where more was too far. Gradient difference ascends at a tenth of the weight,
since squared errors have no bound."""


@dataclass(frozen=True)
class Place:
    """A world with its digest, and the benchmark's folder."""

    world: str
    digest: str
    folder: Path

    @property
    def its(self) -> World:
        """The world."""
        return world(self.world)

    def recipe(self, seed: int) -> Recipe:
        """How a model of a seed is made."""
        return replace(self.its.recipe, seed=seed)


@dataclass(frozen=True)
class Training:
    """Train the original of a seed (without a request), or the oracle of a request."""

    place: Place
    request: str | None
    seed: int

    @property
    def title(self) -> str:
        """World, what is trained, seed."""
        what = "original" if self.request is None else f"oracle of {self.request!r}"
        return f"{self.place.world}: {what}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, request, seed."""
        return {"world": self.place.digest, "request": self.request, "seed": self.seed}

    def done(self) -> Result:
        """Train and keep it."""
        started = time.perf_counter()
        its, run = self.place.its, Run(self.seed)
        rows: Samples = (
            its.rows["train"]
            if self.request is None
            else its.part(self.request, "train", meant=False)
        )
        model = self.place.recipe(self.seed).make({Role.TRAIN: rows}, run).model
        seconds = time.perf_counter() - started
        Record({n: t.detach() for n, t in stored_tensors(model).items()}).save(self._path)
        return {"seconds": seconds}

    def model(self) -> nn.Module:
        """The kept model; made again where the file is gone or damaged."""
        try:
            stored = Record.load_checked(self._path).tensors
        except IntegrityError:
            self.done()
            stored = Record.load_checked(self._path).tensors
        return load_stored(self.place.its.recipe.builder(self.seed), dict(stored))

    @property
    def _path(self) -> Path:
        return self.place.folder / "models" / f"{key_of(self)}.safetensors"


@dataclass(frozen=True)
class Asking:
    """A request in a world, with the seeds of its oracles."""

    place: Place
    request: str
    seeds: tuple[int, ...]

    @property
    def title(self) -> str:
        """World and request."""
        return f"{self.place.world}, {self.request}"

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        return {
            "world": self.place.digest,
            "request": self.request,
            "seeds": list(self.seeds),
            "figures": [*CHOSEN_BY, MOST_VECTORS],
        }

    def original(self, seed: int) -> nn.Module:
        """The original of a seed."""
        return Training(self.place, None, seed).model()

    def oracles(self) -> list[nn.Module]:
        """The oracles, one a seed."""
        return [Training(self.place, self.request, seed).model() for seed in self.seeds]

    def problem(self, seed: int) -> Problem:
        """What a method sees."""
        its = self.place.its
        forget, retain = (its.part(self.request, "train", meant=m) for m in (True, False))
        data: dict[Role, Samples] = {
            Role.FORGET: forget,
            Role.RETAIN: retain,
            Role.TRAIN: its.rows["train"],
        }
        target = Request(self.request, Rows("id", tuple(forget.ids)))
        family, recipe = its.recipe.family, self.place.recipe(seed)
        return Problem(self.original(seed), family, target, data, History(), recipe=recipe)

    def errors(self, model: nn.Module, part: Part, run: Run) -> dict[str, float]:
        """Mean absolute errors on held-out rows of a part and on the forget rows."""
        its = self.place.its
        asked = {
            "retain test": its.part(self.request, part, meant=False),
            "forget test": its.part(self.request, part, meant=True),
            "forget train": its.part(self.request, "train", meant=True),
        }
        family = its.recipe.family
        return {name: error(family, model, rows, run) for name, rows in asked.items()}

    def figures(self, model: nn.Module, seed: int, besides: Sequence[nn.Module]) -> Figures:
        """All figures of a model on test rows; ``W1`` is the mean over the models beside it."""
        its, run = self.place.its, Run(seed)
        family, forget = its.recipe.family, its.part(self.request, "train", meant=True)

        retain, others = (its.part(self.request, p, meant=False) for p in ("train", "test"))
        gone, kept, new = (ask(family, model, rows, run) for rows in (forget, retain, others))
        own = numbers_of(family, model, forget, run)
        return {
            **self.errors(model, "test", run),
            "W1": fmean(wasserstein(own, numbers_of(family, o, forget, run)) for o in besides),
            "SVC-MIA": float(svc_mia(gone, kept, new, absolute_error, most=MOST_VECTORS)[0]),
            "relearning": relearning_curve(
                RELEARNING,
                replace(self.problem(seed), model=model),
                lambda raced: error(family, raced, forget, run),
                run,
            ),
        }


@dataclass(frozen=True)
class Reading:
    """The figures of the original and of the oracle of a seed, beside the other oracles."""

    asking: Asking
    seed: int

    @property
    def title(self) -> str:
        """World, request, seed."""
        return f"{self.asking.title}: original and oracle, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the seed."""
        return {**self.asking.facts(), "seed": self.seed, "relearning": repr(vars(RELEARNING))}

    def done(self) -> Result:
        """Figures of both."""
        asking, oracles = self.asking, self.asking.oracles()
        place = asking.seeds.index(self.seed)
        others = [oracle for i, oracle in enumerate(oracles) if i != place]
        return {
            "original": asking.figures(asking.original(self.seed), self.seed, oracles),
            "oracle": asking.figures(oracles[place], self.seed, others),
        }


@dataclass(frozen=True)
class Tuning:
    """Choose the learning rate of a subject on validation rows, on the original of the first
    seed."""

    asking: Asking
    subject: str
    source: str

    @property
    def title(self) -> str:
        """World, request, subject."""
        return f"{self.asking.title}: rate of {self.subject}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the subject with its rates and its code."""
        own = described(SUBJECTS[self.subject])
        return {**self.asking.facts(), "subject": own, "source": self.source}

    def done(self) -> Result:
        """The distance to the oracles at every rate, and the best of them."""
        asking, seed = self.asking, self.asking.seeds[0]
        run, subject = Run(seed), SUBJECTS[self.subject]
        oracles = [asking.errors(model, "validation", run) for model in asking.oracles()]
        wanted = {name: fmean(oracle[name] for oracle in oracles) for name in CHOSEN_BY}
        tried: list[dict[str, Any]] = []
        for rate in subject.rates:
            try:
                model = subject.answered(asking.problem(seed), run, rate)
            except Exception as error:  # a method may fail in any way; others go on
                tried.append({"rate": rate, "failed": reason_of(error)})
                continue
            found = asking.errors(model, "validation", run)
            tried.append({"rate": rate, "distance": distance(found, wanted)})
        sound = [trial for trial in tried if "distance" in trial]
        best = min(sound, key=lambda trial: trial["distance"], default=None)
        return {"tried": tried, "rate": None if best is None else best["rate"]}


@dataclass(frozen=True)
class Answering:
    """Let a subject answer on the original of one seed."""

    asking: Asking
    subject: str
    source: str
    rate: float | None
    seed: int

    @property
    def title(self) -> str:
        """World, request, subject, seed."""
        return f"{self.asking.title}: {self.subject}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the subject with its code, the rate and the seed."""
        return {
            **self.asking.facts(),
            "subject": described(SUBJECTS[self.subject]),
            "source": self.source,
            "rate": self.rate,
            "seed": self.seed,
            "relearning": repr(vars(RELEARNING)),
        }

    def done(self) -> Result:
        """Figures on test rows and seconds; or why there are none."""
        asking, started = self.asking, time.perf_counter()
        try:
            model = SUBJECTS[self.subject].answered(
                asking.problem(self.seed), Run(self.seed), self.rate
            )
            seconds = time.perf_counter() - started
            figures = asking.figures(model, self.seed, asking.oracles())
        except Exception as error:
            return {"failed": reason_of(error)}
        return {"figures": {**figures, "seconds": seconds}}


def error(family: Family, model: nn.Module, rows: Samples, run: Run) -> float:
    """Mean absolute error, in standard deviations of the target."""
    return float(errors_of(family, model, rows, run).abs().double().mean())


def distance(found: Mapping[str, float], wanted: Mapping[str, float]) -> float:
    """Mean distance of the errors to the oracles', as a share of these."""
    return fmean(abs(found[name] - wanted[name]) / wanted[name] for name in CHOSEN_BY)


def sources() -> dict[str, str]:
    """The digest of the code of each subject."""
    return {name: source_of(type(subject.method)) for name, subject in SUBJECTS.items()}
