"""The pieces of the benchmark: one model that learnt a manipulation, and one method that corrects
it from a share that is identified.

A method is tuned on the very model that it corrects, by what its owner can know: the identified
rows, whose clean labels whoever identified them has seen, and held-out validation rows outside the
manipulated domain. Neither the hidden part of the manipulation nor a test row has a say. The method
itself is never shown a clean label.
"""

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import datasets
import torch
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import reason_of
from expunge.audit.gap import Scores
from expunge.audit.matching import Level, matched
from expunge.audit.tuning import Evaluation, Trials, Tuned
from expunge.benchmarks.classification.worlds import World, world
from expunge.benchmarks.corrective.forms import Form, form
from expunge.benchmarks.corrective.manipulations import Manipulated, Manipulation
from expunge.benchmarks.jobs import Result, key_of
from expunge.data.samples import Samples, TensorSamples
from expunge.deployment import Deployment
from expunge.descent.optimisers import SGD, Cosine
from expunge.errors import ExpungeError
from expunge.learning.supervised.plain import Plain
from expunge.methods.presets import presets_of
from expunge.methods.protocol import Artifact, Method, missing, unlearn
from expunge.models.cnn import SmallCnn
from expunge.models.mlp import Mlp
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import Named, Request, Rows
from expunge.run import Run
from expunge.signals.accuracy import ACCURACY
from expunge.signals.ask import predict
from expunge.signals.predictions import Predictions

TOLERANCE = 0.02
"""What a matched method may lose of the original's retained accuracy on validation rows."""

FEW = (1_000, 300, 1_000)
"""Training, validation and test rows of the clothes that are used: the first of each."""

EPOCHS = 1 / 3
"""Passes over the rows that a method may take, as a share of those of the training."""

Figures = dict[str, float | None]


def digits() -> World:
    """The digits, and a network that is trained until it knows every row by heart."""
    whole = world("digits")

    def build(seed: int) -> nn.Module:
        return Mlp(torch.Generator().manual_seed(seed), (64, 128, 64, 10))

    return replace(
        whole,
        about="1,078 digits of 8 x 8 pixels, ten classes; fully connected 64-128-64-10",
        recipe=Recipe(build, whole.family, _learner(60, 0.1)),
        requests={},
    )


def clothes() -> World:
    """A small part of Fashion-MNIST and a small convolutional network."""
    whole = world("clothes-resnet")  # the world with the fewest of these rows

    def build(seed: int) -> nn.Module:
        return SmallCnn(torch.Generator().manual_seed(seed))

    train, validation, test = (
        rows.select(torch.arange(count))
        for rows, count in zip((whole.train, whole.validation, whole.test), FEW, strict=True)
    )
    return replace(
        whole,
        name="clothes",
        about=f"{FEW[0]:,} clothes of 28 x 28 pixels, ten classes; two convolutions, one hidden "
        "layer",
        recipe=Recipe(build, whole.family, _learner(15, 0.05)),
        train=train,
        train_table=_table(train),
        validation=validation,
        validation_table=_table(validation),
        test=test,
        test_table=_table(test),
        requests={},
    )


def _table(samples: Samples) -> Named:
    """The ids of samples, by which requests name them."""
    table: Named = datasets.Dataset.from_dict({"id": list(samples.ids)})
    return table


def _learner(epochs: int, learning_rate: float) -> Plain:
    """The optimiser of the paper, its schedule a cosine, at the batch size of small sets."""
    return Plain(epochs, 64, SGD(learning_rate, 0.9, 5e-4, schedule=Cosine()))


@functools.cache
def place(name: str) -> World:
    """The world of a name.

    Raises:
        ExpungeError: there is none, or its set was not fetched.
    """
    if name not in PLACES:
        raise ExpungeError(f"There is no world {name!r} here; there are {', '.join(PLACES)}.")
    return PLACES[name]()


PLACES: Mapping[str, Callable[[], World]] = {"digits": digits, "clothes": clothes}
"""The worlds of this benchmark."""


def _in_memory(samples: Samples) -> TensorSamples:
    """Samples whose columns a manipulation can change."""
    assert isinstance(samples, TensorSamples)
    return samples


@dataclass(frozen=True)
class Setting:
    """A world, a manipulation of its training rows, and the seed of both and of the training."""

    world: str
    manipulation: Manipulation
    seed: int

    @property
    def title(self) -> str:
        """In a few words."""
        return f"{self.world}, {self.manipulation.name}, seed {self.seed}"

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        return {
            "world": [self.world, place(self.world).digest],
            "manipulation": repr(self.manipulation),
            "seed": self.seed,
        }


class Stage:
    """What is made once for a setting: manipulated rows, and the models trained on them."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.room = setting, place(setting.world)
        self.recipe = self.room.recipe.with_seed(setting.seed)
        draws = self.run().generator("manipulation")
        self.rows: Manipulated = setting.manipulation.manipulated(
            _in_memory(self.room.train), draws
        )

    def run(self) -> Run:
        """A run of the setting's seed with a meter of its own."""
        return Run(self.setting.seed)

    @functools.cached_property
    def original(self) -> nn.Module:
        """The model that learnt the manipulation."""
        return self.recipe.make({Role.TRAIN: self.rows.samples}, self.run()).model

    @functools.cached_property
    def reference(self) -> nn.Module:
        """The same model made from the rows as they were before."""
        return self.recipe.make({Role.TRAIN: self.rows.clean}, self.run()).model

    def form(self, name: str) -> Form:
        """A method's form for this model and the length of its training."""
        learner: Any = self.recipe.learner
        blocks = len(self.room.family.anatomy(self.original).blocks)
        return form(name).on(blocks, max(1, round(EPOCHS * learner.epochs)))

    def deployment(self) -> Deployment:
        """The original in use."""
        samples = self.rows.samples
        family, recipe = self.room.family, self.recipe
        return Deployment(self.original, family, samples, _table(samples), Sum(), recipe=recipe)

    def request(self, share: float) -> Request:
        """The request for the identified rows."""
        ids = self.rows.samples.ids
        rows = self.rows.identified(share).tolist()
        return Request(f"{share:.0%} identified", Rows("id", tuple(ids[row] for row in rows)))

    def asked(self, model: nn.Module) -> Callable[[Samples], Predictions]:
        """What a model answers."""
        return lambda samples: predict(self.room.family, model, samples, self.run())

    def retained(self, model: nn.Module) -> float:
        """Accuracy on validation rows outside the manipulated domain."""
        held_out = _in_memory(self.room.validation)
        return self.setting.manipulation.retained(self.asked(model), held_out)

    def corrected(self, model: nn.Module, share: float) -> float:
        """Share of clean answers on the first share of the manipulated training rows."""
        rows = self.rows.with_clean_labels(self.rows.identified(share))
        return self.setting.manipulation.corrected(self.asked(model)(rows))

    def figures(self, model: nn.Module, share: float) -> Figures:
        """All that is reported of a model, on test rows and on the manipulated training rows."""
        held_out = _in_memory(self.room.test)
        found = self.setting.manipulation.read(self.asked(model), held_out, self.rows.clean)
        return {
            "corrected": found.corrected,
            "retained": found.retained,
            "attacked": found.attacked,
            "manipulated": self.corrected(model, 1.0),
            "identified": self.corrected(model, share),
            "validation": self.retained(model),
        }


@functools.lru_cache(maxsize=2)
def stage(setting: Setting) -> Stage:
    """The stage of a setting, kept for the next job of this process."""
    return Stage(setting)


@functools.cache
def _trials() -> tuple[Trials, tempfile.TemporaryDirectory[str]]:
    """A database for the trials of this process, and its folder, which goes with the process.

    What is kept of trials is in the result of their job.
    """
    folder = tempfile.TemporaryDirectory(prefix="expunge-trials-")
    return Trials(Path(folder.name) / "trials.db"), folder


@dataclass(frozen=True)
class References:
    """What the original scores, and the same model trained on clean rows."""

    setting: Setting

    @property
    def title(self) -> str:
        """The setting."""
        return f"{self.setting.title}: original and clean"

    def depends_on(self) -> Mapping[str, object]:
        """The setting."""
        return self.setting.facts()

    def done(self) -> Result:
        """Figures of both, and the sizes of the manipulation."""
        here = stage(self.setting)
        return {
            "rows": len(here.rows.samples),
            "manipulated": len(here.rows.rows),
            "effective": here.rows.effective,
            "original": here.figures(here.original, 1.0),
            "clean": here.figures(here.reference, 1.0),
        }


@dataclass(frozen=True)
class Correction:
    """Let one method correct the model of a setting from a share that is identified."""

    setting: Setting
    share: float
    form: str
    trials: int

    @property
    def title(self) -> str:
        """Setting, share, method."""
        return f"{self.setting.title}, {self.share:.0%} identified: {self.form}"

    def depends_on(self) -> Mapping[str, object]:
        """The setting, the share, the method with its code and ranges, the number of trials."""
        return {
            **self.setting.facts(),
            "share": self.share,
            "form": [self.form, form(self.form).facts()],
            "trials": self.trials,
            "tolerance": TOLERANCE,
            "epochs": EPOCHS,
        }

    def done(self) -> Result:
        """Figures as it comes and matched, with the trials; or why there are none."""
        return _Correcting(self).result()


class _Correcting:
    """One correction: tuned, answered, read, matched."""

    def __init__(self, job: Correction) -> None:
        self._job, self._stage = job, stage(job.setting)
        self._form = self._stage.form(job.form)
        self._request = self._stage.request(job.share)

    def result(self) -> Result:
        """As :meth:`Correction.done`."""
        problem = self._problem(self._form.made({}))
        if lacks := missing(self._form.made({}), problem):
            return {"unfit": " and ".join(lack.clause for lack in lacks)}
        tuned = self._tuned() if self._form.space().ranges else None
        if tuned is not None and tuned.best is None:
            return {"failed": tuned.defaults.reason, "trials": _contents(tuned)}
        best = None if tuned is None else tuned.best
        method: Any = self._form.made({} if best is None else best.parameters)
        run = self._stage.run()
        try:
            after, replaced, seconds, found = self._answered(method, run)
            factor, scaled = self._matched(after, replaced)
            comes, at_level = self._figures(after), self._figures(scaled)
        except Exception as error:  # a method may fail in any way; the others go on
            return {"failed": reason_of(error)}
        return {
            "trials": [] if tuned is None else _contents(tuned),
            "trial": None if best is None else best.number,
            "parameters": dataclasses.asdict(method) if found is None else found,
            "processor seconds": seconds,
            "as it comes": comes,
            "matched": at_level,
            "factor": factor,
        }

    def _figures(self, model: nn.Module) -> Figures:
        return self._stage.figures(model, self._job.share)

    def _problem(self, method: Method) -> Problem:
        problem = self._stage.deployment().problem(self._request, method)
        if not self._form.retain_only:
            return problem
        retain = problem.data[Role.RETAIN]
        return replace(problem, data={**problem.data, Role.TRAIN: retain})

    @functools.cached_property
    def _prepared(self) -> Artifact | None:
        """What serves all trials; None where each prepares anew."""
        if not self._form.prepared_once:
            return None
        method = self._form.made({})
        seen = self._problem(method).opened(method.prepares_with)
        return method.prepare(seen, self._stage.run())

    def _answered(
        self, method: Method, run: Run, artifact: Artifact | None = None
    ) -> tuple[nn.Module, bool, float, Mapping[str, Any] | None]:
        """The corrected model, whether it took the place of the other as new weights, the processor
        seconds that the method took (other jobs share the cores), and the fields of its preset."""
        deployment, problem = self._stage.deployment(), self._problem(method)
        start = time.process_time()
        with run.seeded(f"corrective {self._form.name}"):
            outcome = unlearn(method, problem, run, artifact)
        seconds = time.process_time() - start
        deployment.serve(self._request, method, outcome)
        replaced = deployment.base is not self._stage.original
        return deployment.model, replaced, seconds, presets_of(outcome.changes)

    def _tuned(self) -> Tuned:
        trials, _ = _trials()
        return trials.tune(
            self._form.name,
            key_of(self._job),
            self._form.space(),
            self._form.made,
            self._judged,
            self._job.trials,
            self._job.setting.seed,
        )

    def _judged(self, method: Method) -> Evaluation:
        """One minus the mean of the two accuracies that the owner of the model can take."""
        model, _, seconds, _ = self._answered(method, self._stage.run(), self._prepared)
        parts = {
            "identified": self._stage.corrected(model, self._job.share),
            "retained": self._stage.retained(model),
        }
        scores = Scores((), (parts["identified"],), parts["retained"])
        return Evaluation(1 - fmean(parts.values()), parts, scores, seconds)

    def _matched(self, after: nn.Module, replaced: bool) -> tuple[float, nn.Module]:
        """The factor up to which the level is kept on validation rows, and the model there."""
        here = self._stage
        level = Level(ACCURACY, here.retained(here.original), TOLERANCE)
        return matched(here.original, after, here.retained, level, replaced=replaced)


def _contents(tuned: Tuned) -> list[dict[str, object]]:
    """The trials as JSON values."""
    return [
        {"parameters": dict(t.parameters), "gap": t.gap, "parts": t.figures.get("parts")}
        | ({} if t.reason is None else {"failed": t.reason})
        for t in tuned.trials
    ]
