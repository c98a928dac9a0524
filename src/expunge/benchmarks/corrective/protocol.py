"""The protocol: worlds, manipulations, shares and methods, and what is gathered of their jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from expunge.benchmarks.corrective.findings import findings
from expunge.benchmarks.corrective.forms import OF_THE_PAPER, RETRAIN, form, forms
from expunge.benchmarks.corrective.manipulations import (
    InterclassConfusion,
    Manipulation,
    PatchTrigger,
    RandomSwap,
)
from expunge.benchmarks.corrective.work import TOLERANCE, Correction, References, Setting, place
from expunge.benchmarks.jobs import Job, Result, Told, by_job
from expunge.errors import ExpungeError

TENTHS = tuple(step / 10 for step in range(1, 11))
FEW_SHARES = (0.1, 0.5, 1.0)
QUICK_SHARES = (0.1, 0.5, 0.8, 1.0)

COLLAPSED, DAMAGED = 0.5, 0.9
"""Shares of the original's retained accuracy below which a model is called so."""

VARIANTS = ("as it comes", "matched")
MEASURES = ("corrected", "retained", "attacked", "manipulated", "identified")

PAPER = tuple(form.name for form in OF_THE_PAPER)


@dataclass(frozen=True)
class Part:
    """Some methods on one manipulation in a world, at several identified shares."""

    world: str
    manipulation: Manipulation
    shares: tuple[float, ...]
    forms: tuple[str, ...]

    @property
    def panel(self) -> tuple[str, str]:
        """What parts with the same tables have in common."""
        return self.world, self.manipulation.name

    def settings(self, seeds: int) -> list[Setting]:
        """One a seed."""
        return [Setting(self.world, self.manipulation, seed) for seed in range(seeds)]


DIGITS_PATCH, DIGITS_CONFUSION = PatchTrigger(side=2), InterclassConfusion()
SANDALS_AND_SNEAKERS = InterclassConfusion(classes=(5, 7))


def quick() -> tuple[Part, ...]:
    """The paper's methods on the digits."""
    return tuple(
        Part("digits", manipulation, QUICK_SHARES, PAPER)
        for manipulation in (DIGITS_PATCH, DIGITS_CONFUSION)
    )


def full() -> tuple[Part, ...]:
    """All shares, the control and all methods on the digits; the paper's methods on clothes."""
    others = tuple(n for n, form in forms().items() if n not in PAPER and not form.at_preset)
    both = (DIGITS_PATCH, DIGITS_CONFUSION)
    return (
        *(Part("digits", manipulation, TENTHS, PAPER) for manipulation in both),
        *(Part("digits", manipulation, FEW_SHARES, others) for manipulation in both),
        Part("digits", RandomSwap(), FEW_SHARES, PAPER),
        Part("clothes", PatchTrigger(), FEW_SHARES, PAPER),
        Part("clothes", SANDALS_AND_SNEAKERS, FEW_SHARES, PAPER),
    )


def presets() -> tuple[Part, ...]:
    """Every method at its shipped preset on the digits, beside retraining."""
    names = (RETRAIN, *(name for name, form in forms().items() if form.at_preset))
    return tuple(
        Part("digits", manipulation, FEW_SHARES, names)
        for manipulation in (DIGITS_PATCH, DIGITS_CONFUSION)
    )


def only(parts: Sequence[Part], methods: Sequence[str]) -> tuple[Part, ...]:
    """The same parts with the named methods alone.

    Args:
        parts: see :func:`quick`, :func:`full` and :func:`presets`.
        methods: registered names, each of which stands for all forms of it, or names of forms.

    Raises:
        ExpungeError: a name is in no part.
    """
    there = {name: {name, form(name).registered} for part in parts for name in part.forms}
    for name in methods:
        if not any(name in known for known in there.values()):
            raise ExpungeError(
                f"{name!r} is not among the methods of this form; there are {', '.join(there)}. "
                "--full has all of them, --trials 0 their presets."
            )
    kept = [
        replace(part, forms=tuple(name for name in part.forms if there[name] & {*methods}))
        for part in parts
    ]
    return tuple(part for part in kept if part.forms)


@dataclass(frozen=True)
class Protocol:
    """What is run.

    Args:
        folder: where results are kept.
        parts: see :func:`quick`, :func:`full` and :func:`presets`.
        seeds: number of seeds, from 0: of the manipulation, the training and the methods.
        trials: of every method with something to tune, on every model and share; 0 where none has.
        processes: jobs that run at once.
    """

    folder: Path
    parts: tuple[Part, ...]
    seeds: int = 3
    trials: int = 6
    processes: int = 2

    def __post_init__(self) -> None:
        tuned = any(form(name).space().ranges for part in self.parts for name in part.forms)
        fewest = 1 if tuned else 0
        if self.seeds < 1 or self.trials < fewest or self.processes < 1:
            raise ExpungeError(
                f"{self.seeds} seeds, {self.trials} trials and {self.processes} processes were "
                "given; at least one of each is expected."
            )

    def jobs(self) -> list[Job]:
        """All jobs; those of one model follow each other, so that a process trains it once."""
        found: list[Job] = []
        for part in self.parts:
            for setting in part.settings(self.seeds):
                found.append(References(setting))
                found += self._corrections(part, setting)
        return list(dict.fromkeys(found))

    def _corrections(self, part: Part, setting: Setting) -> list[Correction]:
        return [
            Correction(setting, share, name, self.trials)
            for share in part.shares
            for name in part.forms
        ]

    def conduct(self, told: Told) -> dict[str, Any]:
        """Run what is not stored yet, and gather everything as JSON values.

        Raises:
            ExpungeError: a set was not fetched.
        """
        for part in self.parts:
            place(part.world)  # refuse at once, not after hours
        done = by_job(self.jobs(), self.folder / "results", self.processes, told)
        panels = [
            self._panel([part for part in self.parts if part.panel == panel], done)
            for panel in dict.fromkeys(part.panel for part in self.parts)
        ]
        return {
            "seeds": self.seeds,
            "trials": self.trials,
            "tolerance": TOLERANCE,
            "collapsed below": COLLAPSED,
            "damaged below": DAMAGED,
            "panels": panels,
            "findings": [f for panel in panels if self.trials for f in findings(panel)],
        }

    def _panel(self, parts: Sequence[Part], done: Mapping[Job, Result]) -> dict[str, Any]:
        first = parts[0]
        settings = first.settings(self.seeds)
        references = [done[References(setting)] for setting in settings]
        originals = [float(one["original"]["retained"]) for one in references]
        found: dict[str, dict[str, Any]] = {}
        for part in parts:
            for name in part.forms:
                for share in part.shares:
                    results = [
                        done[Correction(setting, share, name, self.trials)] for setting in settings
                    ]
                    found.setdefault(name, {})[f"{share:g}"] = _cell(results, originals)
        return {
            "world": first.world,
            "about": place(first.world).about,
            "manipulation": first.manipulation.name,
            "fields": repr(first.manipulation),
            "domain": first.manipulation.domain,
            "rows": references[0]["rows"],
            "manipulated": references[0]["manipulated"],
            "effective": [one["effective"] for one in references],
            "chance": 1 / 10,
            "shares": sorted({share for part in parts for share in part.shares}),
            "original": _spreads([one["original"] for one in references]),
            "clean": _spreads([one["clean"] for one in references]),
            "methods": {name: found[name] for name in forms() if name in found},
        }


def _cell(results: Sequence[Result], originals: Sequence[float]) -> dict[str, Any]:
    """One method at one share over all seeds."""
    reasons = {r.get("unfit") or r.get("failed") for r in results} - {None}
    if reasons:
        unfit = any("unfit" in r for r in results)
        return {"unfit" if unfit else "failed": "; ".join(sorted(map(str, reasons)))}
    kept = [
        float(r["as it comes"]["retained"]) / original
        for r, original in zip(results, originals, strict=True)
    ]
    return {
        **{variant: _spreads([r[variant] for r in results]) for variant in VARIANTS},
        "collapsed": sum(share < COLLAPSED for share in kept),
        "damaged": sum(share < DAMAGED for share in kept),
        "factor": [r["factor"] for r in results],
        "processor seconds": fmean(float(r["processor seconds"]) for r in results),
        "parameters": [r["parameters"] for r in results],
        "failed trials": sum("failed" in trial for r in results for trial in r["trials"]),
        "warnings": sorted({text for r in results for text in r["warnings"]}),
    }


def _spreads(figures: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Mean, standard deviation and values over seeds of every measure that has one."""
    found = {}
    for measure in MEASURES:
        values = [f[measure] for f in figures if f[measure] is not None]
        if values:
            numbers = [float(value) for value in values if value is not None]
            sd = stdev(numbers) if len(numbers) > 1 else None
            found[measure] = {"mean": fmean(numbers), "sd": sd, "values": numbers}
    return found
