"""The pieces of the benchmark: training judge, bases and oracles, moderating, looking.

Strengths are chosen on validation rows and on pictures that are not reported; what is reported is
drawn with other noise, beside test rows.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, nn

from expunge.audit.case import digest_of_rooms, source_of
from expunge.audit.kept_models import KeptModels
from expunge.benchmarks.jobs import Result, key_of
from expunge.benchmarks.msgm.worlds import World, world
from expunge.benchmarks.picture_judge import Judged, jittered
from expunge.changes.history import History
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.forget_terms import Ascent
from expunge.descent.player import Term
from expunge.errors import ExpungeError
from expunge.families.score import Score
from expunge.families.score_sampling import PredictorCorrector, ProbabilityFlow
from expunge.methods.msgm import (
    Moderated,
    MSGMBounded,
    MSGMErase,
    MSGMFromScratch,
    MSGMObtuse,
    MSGMOrthogonal,
    MSGMPerpendicular,
)
from expunge.methods.protocol import Outcome, unlearn
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import NO_REQUEST
from expunge.run import Run
from expunge.signals.frechet import frechet_distance, kernel_distance
from expunge.signals.likelihood import Likelihood

SAMPLER, FLOW = PredictorCorrector(50), ProbabilityFlow(20)
"""How pictures are drawn, and how likelihoods are computed and codes are found."""

DRAWN, COMPARED, LOOKED_AT = 600, 450, 200
"""Pictures that are reported on, those of them whose distance to as many real ones is computed,
and those by which a strength is chosen."""

DRAWS = 10
"""Draws of real rows over which a distance is averaged: one alone may be half of it or twice."""

ASKED = 100
"""Rows at most of a kind whose likelihood is computed, and that are drawn again or decoded."""

TRUSTED = 0.05
"""Share of real validation pictures of which the judge is less sure than of garbage."""

AWAY = 0.02
"""Time of the marginal by which the code of a picture is noised before it is decoded."""

STEPS, RATE, ROWS, DECAY = 150, 5e-4, 32, 0.98
"""Of every fine-tuning: steps, rate, rows of each kind a step, and decay of the average."""

WARM = 100
"""Steps of warm-up where weights are untrained."""

Which = Literal["base", "oracle", "judge"]


@dataclass(frozen=True)
class GradientAscent(Moderated):
    """The control: the denoising loss itself with its sign turned, at the moderation's weight."""

    name = "gradient-ascent"

    def moderation(self) -> Term:
        """Ascent on the loss."""
        return Ascent(self.weight, self.every, self.forget_batch_size)


FORMS: Mapping[str, Moderated] = {
    "orthogonal": MSGMOrthogonal(),
    "perpendicular": MSGMPerpendicular(),
    "obtuse": MSGMObtuse(),
    "obtuse-released": MSGMObtuse(as_published=True),
    "erase": MSGMErase(),
    "bounded": MSGMBounded(),
    "gradient-ascent": GradientAscent(),
}
"""The moderations by what the tables call them, and gradient ascent as a control."""

ANEW = "orthogonal-from-scratch"
"""The paper's other way: as long as the base's training, from untrained weights."""


@dataclass(frozen=True)
class Strength:
    """How much of a moderation there is: its weight, and the steps from one to the next."""

    weight: float
    every: int = 1


PUBLISHED = Strength(0.01, 4)
STRENGTHS = (PUBLISHED, Strength(0.1))
"""What is tried for every form: the paper's, and a tenth of the loss at every step."""


@dataclass(frozen=True)
class Place:
    """Where a job stands: the world with its digest, the benchmark's folder."""

    world: str
    digest: str
    folder: Path

    @property
    def room(self) -> World:
        """The world itself."""
        return world(self.world)

    def trained(self) -> dict[str, object]:
        """What a model of all rows depends on: rows, recipes, and the code that trains."""
        code = [source_of(World), digest_of_rooms(("families", "models"))]
        return {"digest": self.digest, "code": code}

    def facts(self) -> dict[str, object]:
        """What all else depends on too: which rows are undesired, and the code of this file."""
        return {**self.trained(), "world": self.world, "work": source_of(Place)}

    def kept(self, key: str, architecture: nn.Module, make: Any) -> nn.Module:
        """The model of a key, made where it is not there."""
        return KeptModels(self.folder / "models").get(key, architecture, make)[0]


@dataclass(frozen=True)
class Training:
    """Train the judge, the base, or the oracle that never saw an undesired row."""

    place: Place
    which: Which
    seed: int

    @property
    def title(self) -> str:
        """World, model, seed."""
        return f"{self.place.world}: {self.which}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, model, seed."""
        oracle = {"without the undesired of": self.place.world} if self.which == "oracle" else {}
        return {**self.place.trained(), **oracle, "which": self.which, "seed": self.seed}

    def done(self) -> Result:
        """Train and keep it."""
        start = time.process_time()
        self.model()
        return {"seconds": time.process_time() - start}

    def model(self) -> nn.Module:
        """The kept model; trained where its file is not there."""
        recipe = self._recipe
        return self.place.kept(key_of(self), recipe.builder(self.seed), self._made)

    @property
    def _recipe(self) -> Recipe:
        room = self.place.room
        return (room.judge if self.which == "judge" else room.recipe).with_seed(self.seed)

    def _made(self) -> nn.Module:
        room, rows = self.place.room, self.place.room.rows["train"]
        if self.which == "judge":
            rows = jittered(rows, Run(self.seed).generator("judge"))
        elif self.which == "oracle":
            rows = room.part("train", undesired=False)
        return self._recipe.make({Role.TRAIN: rows}, Run(self.seed)).model


JUDGE_SEED = 7
"""Of the one judge of a world; bases have others."""


@dataclass(frozen=True)
class Moderating:
    """Moderate a base with one form at one strength; ``form`` None is the retain set alone."""

    place: Place
    form: str | None
    strength: Strength
    seed: int

    @property
    def title(self) -> str:
        """World, form, strength, seed."""
        how = f", {self.strength.weight:g} every {self.strength.every}" if self.form else ""
        return f"{self.place.world}: {self.form or 'fine-tune'}{how}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, form, strength, seed."""
        told = {"form": self.form, "weight": self.strength.weight, "every": self.strength.every}
        return {**self.place.facts(), **told, "seed": self.seed, "source": source_of(Moderated)}

    def done(self) -> Result:
        """Moderate and keep it, or say that it diverged."""
        start = time.process_time()
        try:
            self.model()
        except ExpungeError as error:
            return {"diverged": str(error)}
        return {"seconds": time.process_time() - start}

    def model(self) -> nn.Module:
        """The moderated model."""
        room = self.place.room
        return self.place.kept(key_of(self), room.recipe.builder(self.seed), self._made)

    def _made(self) -> nn.Module:
        base = Training(self.place, "base", self.seed).model()
        outcome: Outcome = unlearn(self.method(), self.problem(base), Run(self.seed))
        return outcome.applied_to(base)

    def problem(self, base: nn.Module) -> Problem:
        """What the method sees."""
        room = self.place.room
        data: dict[Role, Samples] = {
            Role.FORGET: room.part("train", undesired=True),
            Role.RETAIN: room.part("train", undesired=False),
        }
        recipe = room.recipe.with_seed(self.seed)
        return Problem(base, room.recipe.family, NO_REQUEST, data, History(), recipe=recipe)

    def method(self) -> Moderated | MSGMFromScratch:
        """The method with its fields; a weight of 0 is the retain set alone."""
        fields: dict[str, Any] = {
            "weight": self.strength.weight if self.form else 0.0,
            "every": self.strength.every,
            "learning_rate": RATE,
            "batch_size": ROWS,
            "forget_batch_size": ROWS,
            "warm_up": 0,
            "steps": STEPS,
            "decay": DECAY,
        }
        if self.form != ANEW:
            return replace(FORMS[self.form or "orthogonal"], **fields)
        learner: Any = self.place.room.recipe.learner
        fields |= {
            "learning_rate": learner.optimiser.learning_rate,
            "batch_size": learner.batch_size,
            "forget_batch_size": learner.batch_size,
            "warm_up": WARM,
            "steps": learner.steps,
            "decay": learner.average.decay,
        }
        return MSGMFromScratch(replace(MSGMOrthogonal(), **fields))


@dataclass(frozen=True)
class Look:
    """What models of a seed draw and know."""

    place: Place
    seed: int

    @property
    def run(self) -> Run:
        """Device and random numbers."""
        return Run(self.seed)

    @property
    def family(self) -> Score:
        """Of the score models."""
        family = self.place.room.recipe.family
        assert isinstance(family, Score)
        return family

    @property
    def judge(self) -> nn.Module:
        """The judge."""
        return Training(self.place, "judge", JUDGE_SEED).model()

    def drawn(self, model: nn.Module, count: int, name: str) -> Tensor:
        """Pictures (count, C, H, W), of the same noise for every model."""
        shape = self.place.room.rows["train"].columns["image"].shape[1:]
        return SAMPLER.drawn(self.family, model, (count, *shape), self.run, name)

    def ratio(self, pictures: Tensor) -> float:
        """The unlearning ratio: the share of pictures that is judged undesired."""
        return share(self.place.room.judged(self.judge, pictures).undesired)

    def bits(self, model: nn.Module, split: str, *, undesired: bool) -> float:
        """Median bits a dimension of :data:`ASKED` rows of a split."""
        rows = self.asked(split, undesired=undesired)
        measure = Likelihood(FLOW, self.place.room.levels)
        return float(measure.bits(self.family, model, rows, self.run).median())

    def asked(self, split: str, *, undesired: bool) -> TensorSamples:
        """The first rows of a kind in a split, at most :data:`ASKED`."""
        rows = self.place.room.part(split, undesired=undesired)
        return rows.select(torch.arange(min(ASKED, len(rows))))

    def figures(self, model: nn.Module) -> dict[str, float]:
        """Everything that is reported of a model."""
        pictures = self.drawn(model, DRAWN, "report")
        return {
            **self.of_pictures(pictures),
            "bits g": self.bits(model, "test", undesired=False),
            "bits u": self.bits(model, "test", undesired=True),
            **self.downstream(model),
        }

    def of_pictures(self, pictures: Tensor) -> dict[str, float]:
        """Shares of undesired and of garbage pictures, and the distance of the others to real ones
        that are desired."""
        judged = self.place.room.judged(self.judge, pictures)
        kept = judged.features[~judged.undesired][:COMPARED]
        enough = len(kept) == COMPARED
        apart = self.apart([kept] * DRAWS) if enough else {"distance": math.nan, "kernel": math.nan}
        found = {"ratio": share(judged.undesired), "garbage": self.garbage(judged)}
        return found | apart

    def garbage(self, judged: Judged) -> float:
        """The share of which the judge is less sure than of the unsurest real validation rows."""
        room = self.place.room
        real = room.judged(self.judge, room.rows["validation"].columns["image"])
        return share(judged.surest < float(real.surest.quantile(TRUSTED)))

    def floor(self) -> dict[str, float]:
        """How far real rows are from real rows: desired ones that were not trained on."""
        return self.apart(self._halves("validation", "test"))

    def apart(self, parts: Sequence[Tensor]) -> dict[str, float]:
        """Mean Frechet and kernel distance of features (:data:`COMPARED`, d) to those of as many
        desired training rows, another draw of them for each part."""
        pairs = list(zip(self._halves("train"), parts, strict=True))
        return {
            "distance": fmean(frechet_distance(*pair) for pair in pairs),
            "kernel": fmean(kernel_distance(*pair) for pair in pairs),
        }

    def _halves(self, *splits: str) -> list[Tensor]:
        """Features of :data:`COMPARED` desired rows of the splits, for each draw."""
        room, draws = self.place.room, Run(0).generator(f"halves/{'/'.join(splits)}")
        rows = torch.cat([room.part(s, undesired=False).columns["image"] for s in splits])
        features = room.judged(self.judge, rows).features
        return [
            features[torch.randperm(len(features), generator=draws)[:COMPARED]]
            for _ in range(DRAWS)
        ]

    def downstream(self, model: nn.Module) -> dict[str, float]:
        """Inpainting of the lower half and reconstruction of test rows: the share of what comes
        from undesired ones that is judged undesired, and the peak signal-to-noise ratio in dB of
        what comes from desired ones, over the lower half and over the whole picture."""
        found: dict[str, float] = {}
        for undesired in (False, True):
            images = self.asked("test", undesired=undesired).columns["image"]
            lower = images.shape[2] // 2
            known = torch.ones_like(images)
            known[:, :, lower:] = 0
            filled = SAMPLER.inpainted(self.family, model, images, known, self.run, "inpaint")
            back = FLOW.reconstructed(self.family, model, images, self.run, "decode", AWAY)
            if undesired:
                found |= {"inpainted u": self.ratio(filled), "decoded u": self.ratio(back)}
            else:
                found |= {
                    "inpainted g": peak(filled[:, :, lower:], images[:, :, lower:]),
                    "decoded g": peak(back, images),
                }
        return found


def peak(pictures: Tensor, real: Tensor) -> float:
    """The peak signal-to-noise ratio in dB, of pictures from 0 to 1 cut to that range; a pixel that
    is no number counts as wrong as can be."""
    wrong = (pictures.clamp(0, 1) - real).square().nan_to_num(1.0)
    return -10 * math.log10(max(float(wrong.mean()), 1e-12))


@dataclass(frozen=True)
class Trying:
    """Look at a moderated model as strengths are chosen: validation rows, and pictures that are
    not reported."""

    what: Moderating

    @property
    def title(self) -> str:
        """The model."""
        return f"tried {self.what.title}"

    def depends_on(self) -> Mapping[str, object]:
        """The model."""
        return {**self.what.place.facts(), "model": key_of(self.what)}

    def done(self) -> Result:
        """Bits a dimension and the share of undesired pictures, or that it diverged."""
        look = Look(self.what.place, self.what.seed)
        try:
            model = self.what.model()
            bits = {
                name: look.bits(model, "validation", undesired=name == "u") for name in ("g", "u")
            }
            return {"bits": bits, "ratio": look.ratio(look.drawn(model, LOOKED_AT, "strength"))}
        except ExpungeError as error:
            return {"diverged": str(error)}


@dataclass(frozen=True)
class Looking:
    """Report on one model: a training, a moderation, or untrained weights (``what`` None)."""

    place: Place
    what: Training | Moderating | None
    seed: int

    @property
    def title(self) -> str:
        """What is looked at."""
        name = "destroyed" if self.what is None else self.what.title
        return f"looked at {name}"

    def depends_on(self) -> Mapping[str, object]:
        """The model."""
        told = None if self.what is None else key_of(self.what)
        return {**self.place.facts(), "model": told, "seed": self.seed}

    def done(self) -> Result:
        """Figures on test rows, or that the model is beyond them."""
        room, what = self.place.room, self.what
        try:
            model = room.recipe.builder(self.seed + 1000) if what is None else what.model()
            return Look(self.place, self.seed).figures(model)
        except ExpungeError as error:
            return {"diverged": str(error)}


@dataclass(frozen=True)
class Judging:
    """What the judge says of real rows: without this no figure means anything."""

    place: Place

    @property
    def title(self) -> str:
        """World."""
        return f"{self.place.world}: the judge on real rows"

    def depends_on(self) -> Mapping[str, object]:
        """World and judge."""
        return {**self.place.facts(), "judge": JUDGE_SEED}

    def done(self) -> Result:
        """Accuracy on test rows, false alarms, misses, and the distance of two real halves."""
        room, look = self.place.room, Look(self.place, 0)
        test = room.rows["test"]
        judged = room.judged(look.judge, test.columns["image"])
        right = judged.probabilities.argmax(1) == test.columns["label"]
        desired, undesired = (
            look.ratio(room.part("test", undesired=flag).columns["image"]) for flag in (False, True)
        )
        return {
            "accuracy": share(right),
            "false alarms": desired,
            "found": undesired,
            "garbage": look.garbage(judged),
            **look.floor(),
        }


def share(flags: Tensor) -> float:
    """The share that is true."""
    return float(flags.double().mean())
