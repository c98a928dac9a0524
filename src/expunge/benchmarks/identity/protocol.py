"""The protocol: originals and retrained models, published settings, tuned strengths, presets.

Choi, Na (2023). Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial
Recognition Systems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from expunge.benchmarks.classification.rows import Figures
from expunge.benchmarks.identity.forms import ORACLE, ORIGINAL, form, forms
from expunge.benchmarks.identity.verdict import verdict
from expunge.benchmarks.identity.work import (
    Answering,
    Place,
    Training,
    Tuning,
    distances,
)
from expunge.benchmarks.identity.worlds import DRAWN, Source
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.signals.nomus import nomus

PUBLISHED, TUNED, PRESET, MODELS = "as published", "tuned", "preset", "models"
"""How a row came about."""

SEEDS, DRAWS = 3, {"vowels": 4}
"""Seeds of a split; and how many splits are drawn where one says too little: of nine men one is
forgotten and two are strangers."""

ALL_LAST = 3
"""Blocks of CF-3 in the list of names."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        source: the world; its draw is the first one.
        methods: names of rows; every one by default.
        seeds: number of models of each kind.
        draws: number of splits; by default what :data:`DRAWS` says, else 1.
        processes: jobs that run at once.

    Raises:
        ExpungeError: there is no such row, fewer than 2 seeds, or several draws of a published set.
    """

    folder: Path
    source: Source
    methods: tuple[str, ...] = ()
    seeds: int = SEEDS
    draws: int | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        for name in self.methods:
            form(name, ALL_LAST)
        if self.seeds < 2:
            raise ExpungeError(
                f"{self.seeds} seed was given; at least 2 are expected, since one retrained model "
                "alone does not say how far two are apart."
            )
        if (self.draws or 1) > 1 and self.source.name not in DRAWN:
            raise ExpungeError(
                f"{self.draws} draws of the persons of {self.source.name!r} were asked for, whose "
                f"parts are published; only those of {' and '.join(DRAWN)} are drawn."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        draws = self.draws or DRAWS.get(self.source.name, 1)
        places = [
            Place(replace(self.source, draw=self.source.draw + d), self.folder, seeds)
            for seeds in [tuple(range(self.seeds))]
            for d in range(draws)
        ]
        names = self.methods or tuple(forms(ALL_LAST))
        trained = self._jobs(
            [Training(p, s, oracle) for p in places for s in p.seeds for oracle in (False, True)],
            told,
        )
        paper = [name for name in names if not form(name, ALL_LAST).preset]
        tunings = self._jobs(
            [Tuning(p, n) for p in places for n in paper if p.room.people.validation is not None],
            told,
        )
        answerings = {
            Answering(p, name, seed): PRESET if name not in paper else PUBLISHED
            for p in places
            for name in names
            for seed in p.seeds
        }
        chosen = [
            Answering(job.place, job.form, seed, found["multiple"])
            for job, found in tunings.items()
            for seed in job.place.seeds
        ]
        answers = self._jobs([*answerings, *chosen], told)
        cells = [_cell(job, MODELS, _name(job), found, trained) for job, found in trained.items()]
        cells += [_cell(j, way, j.form, answers[j], trained) for j, way in answerings.items()]
        cells += [_cell(job, TUNED, job.form, answers[job], trained) for job in chosen]
        room = places[0].room
        result = {
            "world": self.source.name,
            "about": room.about,
            "classes": room.classes,
            "seeds": self.seeds,
            "people": [
                {"draw": p.source.draw, "parts": p.room.people.counts(), **_odd(p)} for p in places
            ],
            "constant": [_constant(p.room.people.test) for p in places],
            "cells": cells,
            "tuning": [
                {"draw": job.place.source.draw, "form": job.form, **found}
                for job, found in tunings.items()
            ],
        }
        return {**result, "verdict": verdict(result)}

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def _name(job: Training) -> str:
    return ORACLE if job.oracle else ORIGINAL


def _odd(place: Place) -> dict[str, list[str]]:
    people = place.room.people
    return {"divided": people.divided, "single": people.single}


def _cell(
    job: Training | Answering,
    way: str,
    name: str,
    found: Result,
    trained: Mapping[Training, Result],
) -> dict[str, Any]:
    """One model beside the oracles of its split; an oracle beside the others."""
    own = {"draw": job.place.source.draw, "seed": job.seed, "way": way, "name": name}
    if "failed" in found:
        return {**own, "failed": found["failed"]}
    oracles: list[Figures] = [
        result["figures"]
        for other, result in trained.items()
        if other.oracle and other.place == job.place and other != job
    ]
    more = {"multiple": job.multiple} if isinstance(job, Answering) else {}
    given = {**found["figures"], **distances(found["figures"], oracles)}
    return {**own, **more, "seconds": found["seconds"], "figures": given}


def _constant(test: Samples) -> dict[str, float]:
    """What a model scores that always gives the most frequent answer."""
    labels = test.batch(torch.arange(len(test)), {"label"})["label"]
    share = float(labels.bincount().max()) / len(test)
    return {"accuracy": share, "NoMUS": nomus(share, 0.5)}
