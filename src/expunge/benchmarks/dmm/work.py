"""The jobs of the benchmark: train populations, scale attributions, unlearn every original.

Every method answers the request on each of the originals by itself, and the margins of all results
are held against those of as many oracles.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.benchmarks.dmm.world import (
    BLOCK,
    LEARNER,
    Kind,
    Place,
    problem_of,
    recipe,
    rows,
    shuffled,
)
from expunge.benchmarks.jobs import Result
from expunge.data.samples import Samples
from expunge.descent.matching import Targets
from expunge.errors import ExpungeError
from expunge.learning.attribution import Attribution, LeaveOuts, scale_of
from expunge.learning.datamodels import DifferenceOfMeans, HalfDataModels, Ridge
from expunge.learning.trak import Trak
from expunge.methods.dmm import DMM
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.protocol import Artifact, Method, unlearn
from expunge.methods.scrub import Scrub
from expunge.models.mlp import small_digits_classifier
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import predict
from expunge.signals.attribution import agreement
from expunge.signals.klom import klom
from expunge.signals.predictions import Predictions

COMPARED: tuple[Kind, Kind] = ("original", "oracle")

ORIGINAL, FLOOR = "original", "oracle vs oracle (floor)"
KINDS: Mapping[str, Kind] = {ORIGINAL: "original", FLOOR: "other oracle"}
"""Rows of the table that nothing was done to."""

BASELINES: Mapping[str, Mapping[float, Method]] = {
    "fine-tune": {rate: FineTune(5, rate) for rate in (1e-4, 1e-3)},
    "gradient-ascent": {
        rate: GradientAscent(5, rate) for rate in (1e-4, 2e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    },
    "scrub": {rate: Scrub(10, 3, learning_rate=rate, batch_size=64) for rate in (1e-2, 3e-2, 1e-1)},
}
"""Each at several learning rates. The table shows the one that does best on the very figures that
are reported, which favours the baselines: the other rows have one setting."""

MATCHING = DMM(epochs=8, learning_rate=1e-3, batch_size=50)
"""How models are matched: 500 rows shown eight times, ten steps a pass."""

MEANS, RIDGE, SHUFFLED, TRAK_ROW = "difference of means", "ridge", "shuffled rows", "TRAK"

TRAK = Trak(dimensions=256)

ESTIMATES: Mapping[str, Attribution] = {
    MEANS: HalfDataModels(estimate=DifferenceOfMeans()),
    RIDGE: HalfDataModels(estimate=Ridge()),
    TRAK_ROW: TRAK,
    SHUFFLED: HalfDataModels(estimate=DifferenceOfMeans()),
}
"""Attributions by name; the last is of the wrong rows."""

LEFT_OUT = LeaveOuts(groups=8, rows=20, models=20, engine="stacked")
"""The real trainings by which the scales are found; they know nothing of the request."""

OM, MATCHED, SCALED, DIRECT = "OM, 1 oracle", "DMM", "DMM, scaled by leave-outs", "DM-Direct"


@dataclass(frozen=True)
class Populating:
    """Train and ask one of the three populations on known rows."""

    place: Place
    kind: Kind
    models: int

    @property
    def title(self) -> str:
        """Which, and how many."""
        return f"{self.models} models: {self.kind}"

    def depends_on(self) -> Mapping[str, object]:
        """Code, training, which and how many."""
        return facts(self.place) | {"kind": self.kind, "models": self.models}

    def done(self) -> Result:
        """Processor seconds."""
        start = time.process_time()
        self.place.predictions(self.kind, self.models)
        return {"seconds": time.process_time() - start}


@dataclass(frozen=True)
class Halving:
    """Train and ask a block of half-data models."""

    place: Place
    block: int

    @property
    def title(self) -> str:
        """Which of them."""
        return f"half-data models {self.block * BLOCK} to {(self.block + 1) * BLOCK - 1}"

    def depends_on(self) -> Mapping[str, object]:
        """Code, training, which."""
        return facts(self.place) | {"block": self.block, "size": BLOCK}

    def done(self) -> Result:
        """Processor seconds."""
        start = time.process_time()
        self.place.halves(self.block)
        return {"seconds": time.process_time() - start}


@dataclass(frozen=True)
class Attributing:
    """Hold attributions against real leave-outs: for the scale, and on the request itself."""

    place: Place
    models: int
    half_models: int

    @property
    def title(self) -> str:
        """What is held against what."""
        return "attributions against real leave-outs"

    def depends_on(self) -> Mapping[str, object]:
        """Code, training, numbers of models."""
        return facts(self.place) | {"models": self.models, "halves": self.half_models}

    def done(self) -> Result:
        """For each attribution the scale from leave-outs, and correlation and slope of the
        predicted change of the mean logits of the forget rows with the true one."""
        place, start, run = self.place, time.process_time(), Run()
        everything = rows().everything.ids
        at = [everything.index(name) for name in rows().sets["forget"]]
        original, oracle = (
            place.predictions(kind, self.models).logits.double().mean(0)[at] for kind in COMPARED
        )
        base = problem_of(place.models("original", self.models)[0])
        forget, effects = base.data[Role.FORGET], LEFT_OUT.effects(base, run)
        found: dict[str, object] = {}
        for name, estimate in ESTIMATES.items():
            artifact = artifact_of(place, name, self.half_models, base)
            presence = partial(_presence, estimate, artifact, base)
            correlation, slope = agreement(presence(list(forget.ids), forget), original - oracle)
            scale = scale_of(presence, effects)
            found[name] = {"correlation": correlation, "slope": slope, "scale": scale}
        return {"attributions": found, "seconds": time.process_time() - start}


@dataclass(frozen=True)
class Unlearning:
    """Let one row of the table answer the request on every original.

    Args:
        place: where the populations are.
        row: of the table.
        setting: the learning rate of a baseline, or the attribution of datamodel matching.
        models: originals, and oracles.
        half_models: of the datamodels.
        scale: c.
    """

    place: Place
    row: str
    setting: float | str
    models: int
    half_models: int
    scale: float = 1.0

    @property
    def title(self) -> str:
        """Row and setting."""
        return self.row if self.setting == "" else f"{self.row}, {self.setting}"

    def depends_on(self) -> Mapping[str, object]:
        """Code, training, numbers of models, row and setting."""
        own = {"row": self.row, "setting": self.setting, "scale": self.scale}
        return facts(self.place) | {"models": self.models, "halves": self.half_models, **own}

    def done(self) -> Result:
        """KLoM and accuracy by set, and processor seconds."""
        start = time.process_time()
        try:
            found = self._answers()
        except ExpungeError as error:  # a rate may be too high; the others go on
            return {"failed": str(error)}
        seconds = time.process_time() - start
        oracles = self.place.predictions("oracle", self.models)
        return {"sets": compared(found, oracles), "seconds": seconds}

    def _answers(self) -> Predictions:
        """What the unlearned models answer."""
        place, models = self.place, self.models
        if self.row in KINDS:
            return place.predictions(KINDS[self.row], models)
        originals = place.models("original", models)
        if self.row == DIRECT:
            return self._direct(originals)
        everything, family, found = rows().everything, recipe().family, []
        for number, model in enumerate(originals):
            after = self._unlearned(problem_of(model), Run(number), number)
            found.append(predict(family, after, everything, Run(), str(number)))
        return Predictions.stacked(found)

    def _unlearned(self, problem: Problem, run: Run, number: int) -> nn.Module:
        """One original after it was unlearned."""
        if self.row == OM:
            oracle = self.place.predictions("other oracle", self.models)
            targets = Targets(oracle.samples, oracle.logits[number])
            return MATCHING.matched(MATCHING.shown(problem, run), targets, run)
        if isinstance(self.setting, float):
            method = BASELINES[self.row][self.setting]
            return _changed(method, problem, Artifact(), run)
        return _changed(self._matching, problem, self._artifact(problem), run)

    @property
    def _matching(self) -> DMM:
        name = str(self.setting)
        if name == TRAK_ROW:
            return replace(MATCHING, attribution=TRAK, strength=self.scale)
        known = known_effects(self.place, name, self.half_models)
        return replace(MATCHING, attribution=known, strength=self.scale)

    def _artifact(self, problem: Problem) -> Artifact:
        """TRAK's belongs to the one model."""
        return TRAK.prepare(problem, Run()) if self.setting == TRAK_ROW else Artifact()

    def _direct(self, originals: Sequence[nn.Module]) -> Predictions:
        """The simulated oracles themselves, known on training rows."""
        train = rows().train
        logits = torch.stack(
            [
                self._matching.direct(problem, self._artifact(problem), train, Run())
                for problem in map(problem_of, originals)
            ]
        )
        names = tuple(str(number) for number in range(len(originals)))
        labels = train.columns["label"]
        return Predictions(logits, labels, names, tuple(train.ids), tuple(train.subjects))


def compared(found: Predictions, oracles: Predictions) -> dict[str, dict[str, float] | None]:
    """KLoM and accuracy by set; None for a set that was not answered."""
    answered = set(found.samples)
    result: dict[str, dict[str, float] | None] = {}
    for name, ids in rows().sets.items():
        if not answered.issuperset(ids):
            result[name] = None
            continue
        own, other = found.of_samples(ids), oracles.of_samples(ids)
        values = klom(own.signals(), other.signals())
        result[name] = {
            "p95": float(values.quantile(0.95)),
            "mean": float(values.mean()),
            "accuracy": float(own.share_right().mean()),
        }
    return result


def artifact_of(place: Place, name: str, half_models: int, problem: Problem) -> Artifact:
    """What is prepared for an attribution; TRAK's belongs to the one model."""
    if name == TRAK_ROW:
        return TRAK.prepare(problem, Run())
    artifact = half_data(place, half_models)
    return shuffled(artifact) if name == SHUFFLED else artifact


@dataclass(frozen=True)
class KnownEffects:
    """What the forget rows add, found once: with half-data models it is alike for all originals."""

    effects: Targets
    needs: ClassVar[tuple[type, ...]] = ()
    prepares_with: ClassVar[Access] = Access()
    preparation: ClassVar[None] = None

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing is left to prepare."""
        return Artifact()

    def presence(
        self, artifact: Artifact, problem: Problem, rows: Sequence[str], asked: Samples, run: Run
    ) -> Tensor:
        """The effects on the rows asked; ``rows`` are always those to forget."""
        return self.effects.of(asked.ids)


@cache
def known_effects(place: Place, name: str, half_models: int) -> KnownEffects:
    """The effects on all training rows by one of the attributions with half-data models."""
    train, base = (
        rows().train,
        problem_of(small_digits_classifier(0)),
    )  # the effects do not depend on the model
    artifact = artifact_of(place, name, half_models, base)
    forget = list(base.data[Role.FORGET].ids)
    effects = ESTIMATES[name].presence(artifact, base, forget, train, Run())
    return KnownEffects(Targets(train.ids, effects))


@cache
def half_data(place: Place, models: int) -> Artifact:
    """The answers of the half-data models, read once a process."""
    return place.artifact(models)


def facts(place: Place) -> dict[str, object]:
    """What every result depends on."""
    return {"code": place.code, "learner": repr(LEARNER)}


def _presence(
    estimate: Attribution,
    artifact: Artifact,
    problem: Problem,
    ids: Sequence[str],
    asked: Samples,
) -> Tensor:
    return estimate.presence(artifact, problem, ids, asked, Run())


def _changed(method: Method, problem: Problem, artifact: Artifact, run: Run) -> nn.Module:
    return unlearn(method, problem, run, artifact).applied_to(problem.model)
