"""The pieces of the benchmark: originals and oracles, and a method on the originals of all seeds.

Every method answers at its preset and at some multiples of it; the multiple is chosen on validation
rows by the gap to the oracles, on the original of the first seed. Test rows have no say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any, Literal

from torch import nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import described, digest_of_rooms, reason_of, source_of
from expunge.benchmarks.classification.rows import Figures, gap, share_right
from expunge.benchmarks.jobs import Result, key_of
from expunge.benchmarks.label_free.tasks import Task, removal, room
from expunge.changes.weights import load_stored, stored_tensors
from expunge.deployment import Deployment
from expunge.errors import IntegrityError
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.laf import LAF
from expunge.methods.laf_repaired import LAFRepaired
from expunge.methods.lfssd import LFSSD
from expunge.methods.presets import preset_of
from expunge.methods.protocol import Method
from expunge.methods.random_label import RandomLabel
from expunge.methods.scrub import Scrub
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import predict
from expunge.signals.membership import boosted_mia
from expunge.signals.membership_features import sorted_probabilities
from expunge.storage import Bundle

RATES = ("extractor_learning_rate", "alignment_learning_rate")
RATE = ("learning_rate",)


@dataclass(frozen=True)
class Subject:
    """A row of the table: a method, and the fields that its strength multiplies.

    ``labels`` says whose labels the method reads to unlearn, beside those of its preset;
    ``strengths`` are tried in their order, 1 being the preset.
    """

    method: Method
    fields: tuple[str, ...]
    labels: str
    strengths: tuple[float, ...] = (1.0, 0.5, 2.0)

    def at(self, preset: Method, strength: float) -> Method:
        """The preset at a strength."""
        given: Any = preset
        scaled = {name: strength * getattr(given, name) for name in self.fields}
        found: Method = replace(given, **scaled)
        return found


LAF_ROW, REPAIRED = "LAF", "LAF+R"
STEP_3, STEP_4 = "LAF, extractor unlearning alone", "LAF, alignment alone"

SUBJECTS: Mapping[str, Subject] = {
    LAF_ROW: Subject(LAF(), RATES, "none"),
    REPAIRED: Subject(LAFRepaired(), RATES, "100 retain rows"),
    STEP_3: Subject(LAF(alignment_learning_rate=0.0), RATES, "none"),
    STEP_4: Subject(LAF(extractor_learning_rate=0.0), RATES, "none"),
    "LF-SSD": Subject(LFSSD(), ("alpha",), "none"),
    "Bad-T": Subject(BadTeacher(), RATE, "none (preset: both)"),
    "fine-tune": Subject(FineTune(), RATE, "retain"),
    "random label": Subject(RandomLabel(), RATE, "both"),
    "SCRUB": Subject(Scrub(), RATE, "both"),
    "NegGrad+": Subject(GradientDifference(), RATE, "both"),
}
"""The rows beside originals and oracles."""

FOLLOWERS = (REPAIRED, STEP_3, STEP_4)
"""What is added to LAF, or left out of it: they are run at the strength that was chosen for it."""

Part = Literal["validation", "test"]


@dataclass(frozen=True)
class Place:
    """A task in a world, and the benchmark's folder."""

    world: str
    task: Task
    folder: Path

    @property
    def title(self) -> str:
        """World and task."""
        return f"{self.world}, {self.task}"

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        its = removal(self.world, self.task)
        return {
            "world": room(self.world).digest,
            "request": its.request.digest(),
            "code": digest_of_rooms(("benchmarks/label_free",)),
        }

    def read(self, model: nn.Module, part: Part) -> Figures:
        """Shares of right answers by set, and ASR."""
        its, family = removal(self.world, self.task).rows(part), room(self.world).family
        found = {name: predict(family, model, rows, Run()) for name, rows in its.items()}
        asr = boosted_mia(found["Train_f"], found["Train_r"], found["Test"], sorted_probabilities)
        return {**{name: share_right(of) for name, of in found.items()}, "ASR": float(asr[0])}

    def averaged(self) -> tuple[str, ...]:
        """The figures whose mean distance to the oracles is the gap."""
        test = ("Test_r", "Test_f") if self.task == "class" else ("Test",)
        return ("Train_r", "Train_f", *test, "ASR")


@dataclass(frozen=True)
class Training:
    """Train an original, or the oracle of its seed."""

    place: Place
    kind: Literal["original", "oracle"]
    seed: int

    @property
    def title(self) -> str:
        """World, task, which, seed."""
        return f"{self.place.title}: {self.kind}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, task, which, seed."""
        learner = described(room(self.place.world).recipe.learner)
        return {**self.place.facts(), "kind": self.kind, "seed": self.seed, "learner": learner}

    def done(self) -> Result:
        """Train, keep, and ask on both parts."""
        start = process_time()
        its = removal(self.place.world, self.place.task)
        rows = its.train if self.kind == "original" else its.rows("test")["Train_r"]
        recipe = room(self.place.world).recipe.with_seed(self.seed)
        model = recipe.make({Role.TRAIN: rows}, Run(self.seed)).model
        Bundle({n: t.detach() for n, t in stored_tensors(model).items()}).save(self._path)
        seconds = process_time() - start
        figures = {part: self.place.read(model, part) for part in ("validation", "test")}
        return {**figures, "seconds": seconds}

    def model(self) -> nn.Module:
        """The kept model; made again where its file is gone or damaged."""
        try:
            stored = Bundle.load_checked(self._path).tensors
        except IntegrityError:
            self.done()
            stored = Bundle.load_checked(self._path).tensors
        return load_stored(room(self.place.world).recipe.builder(self.seed), stored)

    @property
    def _path(self) -> Path:
        return self.place.folder / "models" / f"{key_of(self)}.safetensors"


@dataclass(frozen=True)
class Answering:
    """Let a method answer on the originals of all seeds.

    Args:
        place: the task.
        subject: a name of :data:`SUBJECTS`.
        seeds: number of seeds.
        strength: the one to take, and no other; None to choose among the subject's.
    """

    place: Place
    subject: str
    seeds: int
    strength: float | None = None

    @property
    def title(self) -> str:
        """World, task, method."""
        return f"{self.place.title}: {self.subject}"

    def depends_on(self) -> Mapping[str, object]:
        """The task, the method with its strengths and its code, the seeds."""
        subject = SUBJECTS[self.subject]
        own = {"source": source_of(type(subject.method)), "seeds": self.seeds}
        return {
            **self.place.facts(),
            **own,
            "subject": described(subject),
            "strength": self.strength,
        }

    def done(self) -> Result:
        """Test figures by seed at the preset and at the chosen strength, and what was tried."""
        start, tried = process_time(), list[dict[str, Any]]()
        strength = self.strength
        if strength is None:
            tried = self._tried()
            sound = [trial for trial in tried if "gap" in trial]
            if not sound:
                return {"tried": tried, "none": tried[0]["failed"]}
            strength = min(sound, key=lambda trial: trial["gap"])["strength"]
        if self.strength is not None:
            tuned = [self._figures(strength, seed) for seed in range(self.seeds)]
            return {"tuned": tuned, "strength": strength, "tried": tried}
        preset = [self._figures(1.0, seed) for seed in range(self.seeds)]
        tuned = preset
        if strength != 1.0:
            tuned = [self._figures(strength, seed) for seed in range(self.seeds)]
        return {
            "preset": preset,
            "tuned": tuned,
            "strength": strength,
            "tried": tried,
            "seconds": process_time() - start,
        }

    def _tried(self) -> list[dict[str, Any]]:
        """The gap on validation rows at every strength, on the original of seed 0."""
        place, answer = self.place, self._answer(0)
        oracles = [
            place.read(Training(place, "oracle", seed).model(), "validation")
            for seed in range(self.seeds)
        ]
        tried: list[dict[str, Any]] = []
        for strength in SUBJECTS[self.subject].strengths:
            try:
                found = place.read(answer(strength), "validation")
                distance = gap(found, oracles, place.averaged())
                tried.append({"strength": strength, "gap": distance})
            except Exception as error:  # a method may fail in any way; others go on
                tried.append({"strength": strength, "failed": reason_of(error)})
        return tried

    def _figures(self, strength: float, seed: int) -> Mapping[str, Any]:
        """Test figures and processor seconds; or why there are none."""
        start = process_time()
        try:
            model = self._answer(seed)(strength)
        except Exception as error:
            return {"failed": reason_of(error)}
        seconds = process_time() - start
        return {**self.place.read(model, "test"), "seconds": seconds}

    def _answer(self, seed: int) -> Callable[[float], nn.Module]:
        """From a strength to the model of a seed; preset and preparation are found once."""
        subject = SUBJECTS[self.subject]
        base = Training(self.place, "original", seed).model()
        problem = self._problem(base, subject.method, seed)
        made: list[tuple[Method, Any]] = []

        def answered(strength: float) -> nn.Module:
            if not made:
                preset = preset_of(subject.method, problem, Run(seed))
                seen = problem.opened(preset.prepares_with)
                made.append((preset, preset.prepare(seen, Run(seed))))
            preset, artifact = made[0]
            method = subject.at(preset, strength)
            shown = problem.opened(method.unlearns_with)
            return method.unlearn(shown, artifact, Run(seed)).applied_to(base)

        return answered

    def _problem(self, base: nn.Module, method: Method, seed: int) -> Problem:
        its, recipe = removal(self.place.world, self.place.task), room(self.place.world).recipe
        own = recipe.with_seed(seed)
        deployment = Deployment(base, own.family, its.train, its.table, Sum(), recipe=own)
        return deployment.problem(its.request, method)
