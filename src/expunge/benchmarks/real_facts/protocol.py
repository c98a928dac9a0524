"""The protocol: what the model knows, what methods leave of it, rates tried on other subjects.

Every step is a list of jobs that run beside each other and are stored, so that a benchmark which
was stopped goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from expunge import registry
from expunge.audit.case import source_of
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.real_facts.questions import Name
from expunge.benchmarks.real_facts.work import RATES, Answering, Asking, Describing, Knowing, Mode
from expunge.benchmarks.real_facts.world import MODEL, Part, Place, Size
from expunge.data.catalogue import at_hand
from expunge.errors import ExpungeError
from expunge.methods.presets import HasPreset

SETS = (MODEL, "country-facts", "country-names", "wordnet-people", "wordnet-places")
"""What has to be fetched before."""

METHODS = ("gradient-difference", "npo-rt", "simnpo", "wga", "idk", "npo-lora", "rmu")
"""Those that are compared."""

TRIED = (0.3, 1.0, 3.0)
"""Multiples of a rate that are tried on the development half."""

OTHERS = 24
"""Facts of the other topic that are asked about, at most."""


@dataclass(frozen=True)
class Form:
    """How much is done; as the fields of :class:`Protocol`."""

    topics: tuple[Name, ...]
    methods: tuple[str, ...]
    seeds: int
    size: Size


SMALL = Size(
    candidates=80, forget=6, rehearsed=6, held_out=8, texts=12, first=15, steps=12, relearning=6
)
QUICK = Form(("capitals",), ("gradient-difference", "npo-rt", "simnpo"), 1, SMALL)
FULL = Form(("capitals", "people"), METHODS, 1, Size())


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where results are kept.
        form: how much.
        modes: ``budget``: equal steps at the rate of the preset for language models; ``preset``:
            that preset as it is.
        tune: choose a multiple of each rate on the development half.
        processes: jobs that run at once, of some 3 GB each.
    """

    folder: Path
    form: Form = QUICK
    modes: tuple[Mode, ...] = ("budget",)
    tune: bool = False
    processes: int = 2

    def __post_init__(self) -> None:
        for name in self.form.methods:
            if name not in RATES and not issubclass(registry.load("methods", name), HasPreset):
                raise ExpungeError(
                    f"{name!r} has no preset that a learning rate could be taken from; "
                    f"{', '.join(METHODS)} are expected."
                )
        for name in SETS:
            at_hand(name)

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        knowing = {name: Knowing(name, self.form.size.candidates) for name in _TOPICS}
        known = self._jobs(list(knowing.values()), told)
        ids = {name: tuple(known[job]["known"]) for name, job in knowing.items()}
        return {
            "size": vars(self.form.size),
            "seeds": self.form.seeds,
            "knowledge": {name: dict(known[job]) for name, job in knowing.items()},
            "topics": [self._topic(name, ids, told) for name in self.form.topics],
        }

    def _topic(self, name: Name, known: Mapping[Name, tuple[str, ...]], told: Told) -> Result:
        [other] = [topic for topic in _TOPICS if topic != name]

        def place(part: Part) -> Place:
            return Place(name, part, self.form.size, known[name], known[other][:OTHERS])

        tuned = self._tuned(place("development"), told) if self.tune else {}
        factors = {m: found["factor"] for m, found in tuned.items()}
        here = place("reported")
        [original] = self._jobs([Describing(here)], told).values()
        asked = [
            Asking(here, method, _source(method), mode, seed, factors.get(method, 1.0))
            for mode in self.modes
            for method in self.form.methods
            for seed in range(self.form.seeds)
        ]
        answers = self._jobs([Answering(a) for a in asked], told)
        return {
            "topic": name,
            "original": dict(original),
            "tuning": tuned,
            "answers": [
                {"method": job.asking.method, "mode": job.asking.mode, "seed": job.asking.seed}
                | {"factor": job.asking.factor, **result}
                for job, result in answers.items()
            ],
        }

    def _tuned(self, place: Place, told: Told) -> dict[str, dict[str, Any]]:
        """By method the rate that leaves least to be wished for, and what each rate left."""
        [original] = self._jobs([Describing(place, brief=True)], told).values()
        jobs = [
            Answering(Asking(place, m, _source(m), "budget", 0, factor), brief=True)
            for m in self.form.methods
            for factor in TRIED
        ]
        found = self._jobs(jobs, told)
        tried: dict[str, list[dict[str, Any]]] = {}
        for job, result in found.items():
            own = {"factor": job.asking.factor, "miss": missed(result, original)}
            tried.setdefault(job.asking.method, []).append(own | _brief(result))
        return {
            m: {"factor": min(its, key=lambda one: float(one["miss"]))["factor"], "tried": its}
            for m, its in tried.items()
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


_TOPICS: tuple[Name, ...] = ("capitals", "people")


def missed(result: Result, original: Result) -> float:
    """How far a model is from what is wanted, in shares of questions: the mean of what is still
    chosen of the forgotten facts, in trained words and in others, above what is chosen of
    strangers', and of what is lost of facts that were only asked about, near and far."""
    if "forget" not in result:
        return 1.0
    known = fmean(result[name]["chosen"] for name in ("forget", "paraphrase"))
    lost = fmean(
        original[name]["chosen"] - result[name]["chosen"]
        for name in ("near held out", "far held out")
    )
    return (max(0.0, known - float(original["strangers"]["chosen"])) + max(0.0, lost)) / 2


def _brief(result: Result) -> dict[str, Any]:
    names = ("forget", "paraphrase", "near held out", "far held out")
    shares = {name: result[name]["chosen"] for name in names if name in result}
    return shares | {k: result[k] for k in ("rate", "refused", "failed") if k in result}


def _source(name: str) -> str:
    return source_of(registry.load("methods", name))
