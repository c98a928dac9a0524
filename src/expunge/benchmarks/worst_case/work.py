"""The pieces of the benchmark: choosing sets, retraining without them, letting methods answer.

Fan, Liu, Hero, Liu (2024). Challenging Forgets: Unveiling the Worst-Case Forget Sets in Machine
Unlearning. The digits with some wrong labels: a wrong label is what a retrained model cannot guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import described, digest_of_samples, reason_of, source_of
from expunge.audit.kept_models import KeptModels
from expunge.audit.worst_case import (
    AS_RELEASED,
    BY_GROUP,
    CrossFitted,
    Goal,
    RandomStart,
    Raw,
    Searched,
    WorstCase,
    random_choice,
)
from expunge.benchmarks.classification.rows import Answers, Figures, share_right
from expunge.benchmarks.jobs import Result, key_of
from expunge.benchmarks.shipped import Work, digits_classifier_work
from expunge.data.samples import TensorSamples, all_but
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW
from expunge.families.from_logits import other_labels
from expunge.learning.supervised.plain import Plain
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.presets import AtPreset
from expunge.methods.protocol import Method
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun import SalUn
from expunge.methods.scrub import Scrub
from expunge.methods.ssd import SSD
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals.ask import predict

CLASSES = 10

NOISE = 0.05
"""The share of the training rows that have a wrong label, drawn anew for every seed."""

BUDGET = 0.1
"""The share of the training rows that is chosen."""

ANOTHER = 1000
"""What is added to the seed of a second retraining."""

TRAININGS: Mapping[str, Plain] = {
    "trained long": Plain(60, 64, AdamW(3e-3)),
    "as shipped": Plain(30),
}
"""How the models are trained: until most wrong labels are known by heart, or as the shipped
classifier, which knows few of them."""

WORST, EASIEST, RANDOM = "worst case", "easiest", "random"
LOWEST, HIGHEST = "lowest cross-fitted loss", "highest cross-fitted loss"

SEARCHES: Mapping[str, WorstCase] = {
    WORST: WorstCase(),
    EASIEST: WorstCase(goal=Goal.EASIEST),
    "as in a public reproduction: step 1e-3": WorstCase(
        upper_step=1e-3, penalty=1e-4, scale=Raw(), start=RandomStart()
    ),
    "as released: step 1e-2": AS_RELEASED,
    "raw losses, random start, step 10": replace(AS_RELEASED, upper_step=10.0),
    "unit maximum, random start, step 10": WorstCase(start=RandomStart()),
}
"""The search, its reverse, and other steps, scales and starts of it."""

BASELINES: Mapping[str, Goal] = {LOWEST: Goal.HARDEST, HIGHEST: Goal.EASIEST}

SETS = (RANDOM, *SEARCHES, *BASELINES)

ANSWERED = (WORST, RANDOM, EASIEST)
"""The sets that methods answer."""

METHODS: Mapping[str, Method] = {
    method.name: AtPreset.of(method)
    for method in (FineTune(), RandomLabel(), SalUn(), Scrub(), SSD(), GradientDifference())
}
"""At their presets; nothing is tuned on any of the sets."""


@cache
def digits() -> Work:
    """The digits, read once a process."""
    return digits_classifier_work()


@dataclass(frozen=True)
class Place:
    """Where a job stands: a training of :data:`TRAININGS`, a seed, the benchmark's folder."""

    training: str
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        """Training and seed."""
        return f"{self.training}, seed {self.seed}"

    def facts(self) -> dict[str, object]:
        """What every result depends on."""
        return {
            "learner": described(TRAININGS[self.training]),
            "seed": self.seed,
            "train": digest_of_samples(self.train),
            "source": source_of(WorstCase),
        }

    @property
    def run(self) -> Run:
        """The run of the seed."""
        return Run(self.seed)

    @property
    def wrong(self) -> Tensor:
        """Truth values (rows,) of the rows that have a wrong label."""
        count = len(digits().data[Role.TRAIN])
        order = torch.randperm(count, generator=self.run.generator("wrong rows"))
        found = torch.zeros(count, dtype=torch.bool)
        found[order[: round(NOISE * count)]] = True
        return found

    @property
    def train(self) -> TensorSamples:
        """The training rows with the wrong labels."""
        clean = digits().data[Role.TRAIN]
        assert isinstance(clean, TensorSamples)
        labels = clean.columns["label"]
        others = other_labels(labels, CLASSES, self.run.generator("wrong labels"))
        return clean.with_column("label", torch.where(self.wrong, others, labels))

    @property
    def budget(self) -> int:
        """How many rows are chosen."""
        return round(BUDGET * len(self.train))

    @property
    def recipe(self) -> Recipe:
        """How the model of the seed is made."""
        return replace(digits().recipe, learner=TRAININGS[self.training], seed=self.seed)

    def base(self) -> nn.Module:
        """The model, trained where it is not kept."""
        kept, recipe = KeptModels(self.folder / "models"), self.recipe
        key = key_of(Training(self))
        untrained = recipe.builder(self.seed)
        return kept.get(key, untrained, lambda: self.trained(recipe, self.train))[0]

    def trained(self, recipe: Recipe, samples: TensorSamples) -> nn.Module:
        """A model of some rows."""
        return recipe.make({Role.TRAIN: samples}, self.run).model

    def without(self, rows: tuple[int, ...]) -> TensorSamples:
        """The training rows that are not chosen."""
        return self.train.select(all_but(len(self.train), torch.tensor(rows)))

    def read(self, model: nn.Module, rows: tuple[int, ...]) -> Figures:
        """UA, RA, TA and an attack of a model, ``rows`` being those to forget."""
        family, run = digits().recipe.family, self.run
        forget, retain, others = (
            predict(family, model, samples, run)
            for samples in (
                self.train.select(torch.tensor(rows)),
                self.without(rows),
                digits().test,
            )
        )
        return Answers(forget, retain, others, None).quick()


@dataclass(frozen=True)
class Training:
    """Train the base."""

    place: Place

    @property
    def title(self) -> str:
        """Training and seed."""
        return f"{self.place.title}: base"

    def depends_on(self) -> Mapping[str, object]:
        """The rows and the training."""
        return self.place.facts()

    def done(self) -> Result:
        """The share of the wrong labels that it knows by heart, and its accuracy on test rows."""
        place, base = self.place, self.place.base()
        family, wrong = place.recipe.family, place.wrong.nonzero().reshape(-1)
        known, right = (
            share_right(predict(family, base, samples, place.run))
            for samples in (place.train.select(wrong), digits().test)
        )
        return {"known by heart": known, "TA": right}


@dataclass(frozen=True)
class Choosing:
    """Choose a set of :data:`SETS`."""

    place: Place
    name: str

    @property
    def title(self) -> str:
        """Training, seed, set."""
        return f"{self.place.title}: choose {self.name}"

    def depends_on(self) -> Mapping[str, object]:
        """The rows, the training, and the search."""
        how = described(SEARCHES.get(self.name, self.name))
        return {**self.place.facts(), "how": how, "budget": BUDGET}

    def done(self) -> Result:
        """Rows, share of wrong labels, overlap with the random set, and the search's objective."""
        place = self.place
        random = random_choice(len(place.train), place.budget, place.run)
        found: Searched | None = None
        if self.name in SEARCHES:
            found = SEARCHES[self.name].search(
                place.base(), place.recipe.family, place.train, place.budget, place.run
            )
            chosen = found.chosen
        elif self.name in BASELINES:
            losses = CrossFitted().losses(place.recipe, place.train, place.run)
            chosen = CrossFitted().chosen(losses, place.budget, BASELINES[self.name])
        else:
            chosen = random
        return {
            "rows": chosen.tolist(),
            "wrong labels": float(place.wrong[chosen].double().mean()),
            "overlap": int(torch.isin(chosen, random).sum()),
            "start": None if found is None else found.start,
            "end": None if found is None else found.end,
        }


@dataclass(frozen=True)
class Retraining:
    """Retrain without a set, with the seed of the base and with another one."""

    place: Place
    rows: tuple[int, ...]

    @property
    def title(self) -> str:
        """Training and seed."""
        return f"{self.place.title}: retrain without {len(self.rows)} rows"

    def depends_on(self) -> Mapping[str, object]:
        """The rows and the training."""
        return {**self.place.facts(), "rows": self.rows, "another": ANOTHER}

    def done(self) -> Result:
        """The figures of both, and of the original."""
        place, rows = self.place, self.rows
        retain, recipe = place.without(rows), place.recipe
        another = recipe.with_seed(place.seed + ANOTHER)
        return {
            "original": place.read(place.base(), rows),
            "retrained": place.read(place.trained(recipe, retain), rows),
            "another": place.read(place.trained(another, retain), rows),
        }


@dataclass(frozen=True)
class Answering:
    """Let a method of :data:`METHODS` forget a set."""

    place: Place
    rows: tuple[int, ...]
    method: str

    @property
    def title(self) -> str:
        """Training, seed, method."""
        return f"{self.place.title}: {self.method}"

    def depends_on(self) -> Mapping[str, object]:
        """The rows, the training, the method and its code."""
        method = METHODS[self.method]
        own = {"method": described(method), "code": source_of(type(method))}
        return {**self.place.facts(), "rows": self.rows, **own}

    def done(self) -> Result:
        """Its figures, or why there are none."""
        place, train = self.place, self.place.train
        base, table = place.base(), digits().table
        ids = tuple(train.ids[row] for row in self.rows)
        deployment = Deployment(base, place.recipe.family, train, table, Sum(), recipe=place.recipe)
        request = Request("a tenth of the rows", Rows("id", ids))
        try:
            outcome = deployment.unlearn(request, METHODS[self.method], place.run)
            return {"figures": place.read(outcome.applied_to(base), self.rows)}
        except Exception as error:  # a method may fail in any way; others go on
            return {"failed": reason_of(error)}


@dataclass(frozen=True)
class Classes:
    """The class-wise search for one class, beside the truth: every class was tried."""

    place: Place

    @property
    def title(self) -> str:
        """Training and seed."""
        return f"{self.place.title}: classes"

    def depends_on(self) -> Mapping[str, object]:
        """The training and the search."""
        return {**self.place.facts(), "search": described(BY_GROUP)}

    def done(self) -> Result:
        """The classes that were found, and the loss of each class after it was unlearned."""
        place = self.place
        base, family, train, run = place.base(), place.recipe.family, place.train, place.run
        labels = train.columns["label"]
        losses = [
            float(BY_GROUP.losses_after(base, family, train, only, run, labels)[place_of])
            for place_of, only in enumerate(torch.eye(CLASSES, dtype=torch.float64))
        ]
        found = BY_GROUP.search(base, family, train, 1, run, labels)
        fitted = CrossFitted().losses(place.recipe, train, run, labels)
        return {
            "losses": losses,
            WORST: int(found.chosen),
            RANDOM: int(found.random),
            LOWEST: int(fitted.argmin()),
        }
