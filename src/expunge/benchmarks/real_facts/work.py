"""The pieces of the benchmark: what the model knows, what methods leave, how soon it is back.

A result holds what was measured of one model; what it is read against is taken where results come
together.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from torch import Tensor, nn

from expunge import registry
from expunge.attacks.relearning import Relearning
from expunge.audit.case import digest_of_rooms, reason_of
from expunge.benchmarks.jobs import Result
from expunge.benchmarks.real_facts.questions import (
    LANGUAGES,
    WORDINGS,
    Fact,
    Name,
    Question,
    foreign_questions,
    reversed_questions,
)
from expunge.benchmarks.real_facts.world import CODE, SURE, Answers, Place, asker, topic
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.methods.low_rank import OverFactors
from expunge.methods.presets import AtPreset, preset_of
from expunge.methods.protocol import Method
from expunge.recipe import Role
from expunge.requests import Request
from expunge.run import Run

Mode = Literal["budget", "preset"]

HALF, RETAIN_ROWS = 2, 16
"""Steps of a pass over the forget rows, and retain rows of a step."""

CHOSEN_BY = ("forget", "paraphrase", "strangers", "near held out", "far held out")
"""What a rate is chosen by."""

ATTACK = AdamW(5e-5)
"""How relearning descends, all that is shown in every step."""

RATES: Mapping[str, float] = {"rmu": 3e-4}
"""Of methods without a preset for language models; the largest tried that kept the model."""

MISLED = 100.0
"""Coefficient of RMU: in the layer that it steers, states of this model are about as long."""


@dataclass(frozen=True)
class Knowing:
    """Ask the model for every fact of a topic, in every wording."""

    name: Name
    candidates: int

    @property
    def title(self) -> str:
        """The topic."""
        return f"{self.name}: what the model knows"

    def depends_on(self) -> Mapping[str, object]:
        """The topic and the code."""
        return {**vars(self), "code": digest_of_rooms(CODE)}

    def done(self) -> Result:
        """Ids of the facts that it knows, and shares of right answers by wording."""
        facts, run, one = topic(self.name, self.candidates), Run(), asker()
        model = one.model(0)
        right = dict.fromkeys((fact.id for fact in facts), 0)
        sure = dict.fromkeys((fact.id for fact in facts), True)
        wordings = []
        for relation, wording in WORDINGS.items():
            its = [fact for fact in facts if fact.relation == relation]
            for text in wording.every if its else ():
                found = one.answers(model, [q for f in its for q in f.asked([text])], run)
                wordings.append({"relation": relation, "wording": text, **_shares(found)})
                for fact, hit in zip(its, found.chosen.tolist(), strict=True):
                    right[fact.id] += hit
                    sure[fact.id] &= hit or text not in wording.trained
        for label, asked in self._further(facts).items():
            found = one.answers(model, asked, run)
            wordings.append({"relation": "capital", "wording": label, **_shares(found)})
        known = [fact.id for fact in facts if sure[fact.id] and right[fact.id] >= SURE]
        return {"facts": len(facts), "known": known, "wordings": wordings}

    def _further(self, facts: Sequence[Fact]) -> Mapping[str, list[Question]]:
        """What is only asked about capitals: other languages, and the reverse."""
        if self.name != "capitals":
            return {}
        found = {language: foreign_questions(facts, language) for language in LANGUAGES}
        return {**found, "reverse": reversed_questions(facts, facts, asker().first)}


@dataclass(frozen=True)
class Describing:
    """What the model answers before anything is forgotten, and how soon it learns about strangers;
    in brief what a rate is chosen by."""

    place: Place
    brief: bool = False

    @property
    def title(self) -> str:
        """Topic and half."""
        return f"{self.place.name}, {self.place.part}: the original"

    def depends_on(self) -> Mapping[str, object]:
        """The place."""
        return {**self.place.facts(), "brief": self.brief}

    def done(self) -> Result:
        """Figures; ``learned`` are the curves of learning the strangers' facts."""
        place, run = self.place, Run()
        model = asker().model(place.size.first)
        if self.brief:
            return shares_of(place, model, run, CHOSEN_BY)
        strangers = place.strangers[:: place.size.names]
        return {
            **figures(place, model, run),
            "learned": relearned(place, model, strangers, run),
            "groups": {
                field.name: [f.subject for f in getattr(place.groups, field.name)]
                for field in dataclasses.fields(place.groups)
            },
            "names": [fact.subject for fact in place.strangers],
        }


@dataclass(frozen=True)
class Asking:
    """One method on one request; ``factor`` scales its rate in the mode ``budget``."""

    place: Place
    method: str
    source: str
    mode: Mode
    seed: int
    factor: float = 1.0

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        names = ("method", "source", "mode", "seed", "factor")
        return {**self.place.facts(), **{name: getattr(self, name) for name in names}}

    def made(self, deployment: Deployment, request: Request) -> Method:
        """The method as the mode says."""
        method: Method = registry.load("methods", self.method)()
        if self.mode == "preset":
            return AtPreset.of(method)
        return budgeted(method, self.factor, self.place.size.steps, deployment, request)


def budgeted(
    method: Method, factor: float, steps: int, deployment: Deployment, request: Request
) -> Method:
    """A method that makes so many steps, whatever they reach, with the weights of its terms and a
    multiple of the rate from its preset; half of the forget rows and :data:`RETAIN_ROWS` retain
    rows a step."""
    problem = deployment.problem(request, method)
    given: Any = preset_of(method, problem)
    rows = len(problem.data[Role.FORGET])
    size = math.ceil(rows / HALF)
    fields: dict[str, object] = {
        "learning_rate": factor * RATES.get(method.name, given.learning_rate),
        "epochs": max(1, steps // math.ceil(rows / size)),
        "steps": steps,
        "batch_size": size,
        "retain_batch_size": RETAIN_ROWS,
        "until": None,
        "coefficient": MISLED,
    }
    if isinstance(method, OverFactors):
        fields["targets"] = asker().moved_layers(problem.model)
    own = {field.name for field in dataclasses.fields(given)}
    made: Method = replace(given, **{n: v for n, v in fields.items() if n in own})
    return made


@dataclass(frozen=True)
class Answering:
    """Let a method answer a request, and ask the model that it leaves: in brief what a rate is
    chosen by, in full everything, and relearning."""

    asking: Asking
    brief: bool = False

    @property
    def title(self) -> str:
        """Topic, half, method, mode, multiple of its rate, seed."""
        a = self.asking
        scaled = "" if a.factor == 1 else f" x {a.factor:g}"
        return f"{a.place.name}, {a.place.part}: {a.method}, {a.mode}{scaled}, seed {a.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The asking."""
        return {**self.asking.facts(), "brief": self.brief}

    def done(self) -> Result:
        """Figures and cost; or why the method refused or failed."""
        asking, place, run = self.asking, self.asking.place, Run(self.asking.seed)
        deployment, request = place.deployment(asker().model(place.size.first))
        start = time.process_time()
        try:
            method = asking.made(deployment, request)
            deployment.forget(request, method, run)
            seconds, model = time.process_time() - start, deployment.model
        except ExpungeError as error:
            return {"refused": reason_of(error), "seconds": time.process_time() - start}
        except Exception as error:  # a method may fail in any way; the others go on
            return {"failed": reason_of(error)}
        cost: dict[str, Any] = {"seconds": seconds, "touched": sum(run.meter.touched.values())}
        if asking.mode == "budget":
            cost["rate"] = float(getattr(method, "learning_rate"))  # noqa: B009, no field of Method
        if self.brief:
            return {**shares_of(place, model, Run(asking.seed), CHOSEN_BY), **cost}
        found = {**figures(place, model, Run(asking.seed)), **cost}
        found["relearned"] = relearned(place, model, place.groups.forget, Run(asking.seed))
        return found


def figures(place: Place, model: nn.Module, run: Run) -> dict[str, Any]:
    """What a model answers to everything of a place, and its perplexity on texts."""
    one = asker()
    texts = one.texts(place.name, place.size.texts)
    return {**shares_of(place, model, run), "perplexity": one.perplexity(model, texts, run)}


def shares_of(
    place: Place, model: nn.Module, run: Run, names: Sequence[str] = ()
) -> dict[str, Any]:
    """By what is asked (``names``; everything where none is given): shares of questions ``chosen``
    and ``exact``, and of each fact the mean log-probability per token of its answer in nats."""
    found: dict[str, Any] = {}
    for name, questions in place.panel().items():
        if not names or name in names:
            answers = asker().answers(model, questions, run)
            found[name] = {**_shares(answers), "log probability": _by_fact(questions, answers)}
    return found


def relearned(
    place: Place, model: nn.Module, facts: Sequence[Fact], run: Run
) -> dict[str, list[float]]:
    """Shares of questions chosen right after 0, 1, 2 ... steps on one half of the facts: ``shown``
    of that half, ``others`` of the other one."""
    one = asker()
    subjects = list(dict.fromkeys(fact.subject for fact in facts))
    first = set(subjects[: len(subjects) // 2])
    shown = [q for f in facts if f.subject in first for q in f.trained]
    others = [q for f in facts if f.subject not in first for q in f.trained]
    rows = one.rows(shown)

    def asked(model: nn.Module) -> tuple[float, float]:
        chosen = one.answers(model, [*shown, *others], run).chosen.double()
        return float(chosen[: len(shown)].mean()), float(chosen[len(shown) :].mean())

    attack = Relearning(place.size.relearning, len(rows), ATTACK)
    curve = attack.followed(model, one.family, rows, asked, run)
    return {"shown": [a for a, _ in curve], "others": [b for _, b in curve]}


def _shares(answers: Answers) -> dict[str, Any]:
    return {
        "questions": len(answers.chosen),
        "chosen": float(answers.chosen.double().mean()),
        "exact": float(answers.exact.double().mean()),
    }


def _by_fact(questions: Sequence[Question], answers: Answers) -> list[float]:
    """The mean over the wordings of each subject's fact, in the order of the questions."""
    found: dict[tuple[str, str], list[float]] = {}
    values: Tensor = answers.log_probability
    for question, value in zip(questions, values.tolist(), strict=True):
        found.setdefault((question.subject, question.answer), []).append(value)
    return [fmean(its) for its in found.values()]
