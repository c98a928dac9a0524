"""Tuning: the same number of trials for every method, on validation rows, in a database of trials.

Akiba, Sano, Yanase, Ohta, Koyama (2019). Optuna, with the tree-structured Parzen estimator of
Bergstra, Bardenet, Bengio, Kégl (2011), Algorithms for Hyper-Parameter Optimization.

The first trial is always the paper's defaults, the second the method's preset where it has one.
The sampler of a trial is made anew from the seed and the number of the trial, and sees what
finished before; the database holds finished trials alone. A run that was killed therefore goes on
as if it had not been.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from expunge.audit.case import Case, reason_of
from expunge.audit.gap import Scores, average_gap, gaps
from expunge.audit.measure import Panel
from expunge.errors import ExpungeError
from expunge.methods.protocol import Method
from expunge.methods.search import Choice, LogUniform, Range, Space, WholeNumber
from expunge.run import Run

PRESET, MARK = 1, "preset"
"""The number of the trial of a preset, and what marks it in the database."""

STARTUP = 5
"""Trials drawn at random, the defaults among them, before the estimator is asked."""


@dataclass(frozen=True)
class Evaluation:
    """What one setting of the hyper-parameters gave: the average gap, its parts, scores, seconds.

    ``gap`` is the objective; smaller is better.
    """

    gap: float
    parts: Mapping[str, float]
    scores: Scores
    seconds: float


@dataclass(frozen=True)
class Objective:
    """How a method is judged: the average gap to the oracle after all requests.

    Args:
        case: the model and its requests.
        validation: held-out rows that nothing is reported on.
        own: the training rows that the requests name.
        oracle: what the oracle scores on both.
        unit: what differences are divided by, see :func:`~expunge.audit.gap.unit_of`.
        run: makes a run with the case's seed and a meter of its own.
    """

    case: Case
    validation: Panel
    own: Panel
    oracle: Scores
    unit: float
    run: Callable[[], Run]

    def __call__(self, method: Method) -> Evaluation:
        """Let the method answer every request, and measure once at the end."""
        run = self.run()
        model = self.case.answered(method, run).model
        scores = Scores.asked(self.case.family, model, self.validation, self.own, run)
        return Evaluation(
            self.gap_of(scores),
            gaps(scores, self.oracle, self.unit),
            scores,
            run.meter.seconds,
        )

    def gap_of(self, scores: Scores) -> float:
        """The average gap of scores on the same panels."""
        return average_gap(scores, self.oracle, self.unit)


@dataclass(frozen=True)
class Trial:
    """One trial as it is stored. ``gap`` is None for a trial that failed, and ``reason`` says why;
    ``figures`` holds everything else that was measured, as JSON values. ``preset`` marks the trial
    of the preset, which has no parameters: it finds them anew for every request."""

    number: int
    parameters: Mapping[str, Any]
    gap: float | None
    figures: Mapping[str, Any]
    reason: str | None
    preset: bool = False


@dataclass(frozen=True)
class Tuned:
    """All trials of one method, in order."""

    method: str
    space: Space
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The trial with the smallest gap, the earlier one of two alike; None if all failed."""
        finished = [t for t in self.trials if t.gap is not None]
        return min(finished, key=lambda t: (t.gap, t.number), default=None)

    @property
    def preset(self) -> Trial | None:
        """Trial 1, where the method has a preset and the budget had room for it."""
        return next((t for t in self.trials if t.preset), None)

    @property
    def defaults(self) -> Trial:
        """Trial 0: the paper's defaults."""
        return self.trials[0]


class Trials:
    """The database of trials: one study for each method and setting.

    Args:
        path: an SQLite file, made if it is not there.

    Raises:
        ExpungeError: the file is no database of trials.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # its lines are not our output
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        except Exception as error:  # SQLAlchemy's, whose kinds this room does not know
            raise ExpungeError(
                f"{path} cannot be used as a database of trials ({reason_of(error)}); name "
                "another file, or remove it."
            ) from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process adds trials to this file.

        Raises:
            ExpungeError: another one is at it.
        """
        lock = FileLock(f"{self.path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ExpungeError(
                f"Another process is adding trials to {self.path}; wait for it, or name another "
                "file."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def tune(
        self,
        name: str,
        setting: str,
        space: Space,
        make: Callable[[Mapping[str, Any]], Method],
        objective: Callable[[Method], Evaluation],
        budget: int,
        seed: int,
        told: Callable[[Trial], None] = lambda trial: None,
        preset: Method | None = None,
    ) -> Tuned:
        """Bring the trials of a method up to ``budget``, failed ones included.

        A method with nothing to tune has one trial, its defaults.

        Args:
            name: of the method.
            setting: digest of all that a trial depends on beside the parameters; trials of
                another setting are not touched.
            space: what is varied.
            make: the method with given hyper-parameters.
            objective: what it is judged by.
            budget: number of trials.
            seed: fixes every proposal together with the number of the trial.
            told: is called with every new trial.
            preset: the method at its preset, for the second trial; None where it has none.
        """
        study = optuna.create_study(
            storage=self._storage, study_name=_study(name, setting), load_if_exists=True
        )
        for number in range(len(study.trials), budget if space.ranges else 1):
            if number == PRESET and preset is not None:
                study.add_trial(_tried({}, {}, partial(_given, preset), objective, {MARK: True}))
            else:
                parameters = _proposed(study.trials, name, space, seed)
                study.add_trial(_tried(parameters, space.ranges, make, objective))
            told(_read(study.trials[number], number))
        return self._found(study, name, space)

    def found(self, name: str, setting: str, space: Space) -> Tuned | None:
        """The stored trials of a method; None where there are none."""
        if _study(name, setting) not in optuna.get_all_study_names(self._storage):
            return None
        study = optuna.load_study(storage=self._storage, study_name=_study(name, setting))
        return self._found(study, name, space) if study.trials else None

    def _found(self, study: optuna.Study, name: str, space: Space) -> Tuned:
        return Tuned(name, space, tuple(_read(t, i) for i, t in enumerate(study.trials)))


def _study(name: str, setting: str) -> str:
    return f"{name} {setting}"


def _proposed(finished: list[FrozenTrial], name: str, space: Space, seed: int) -> dict[str, Any]:
    """The parameters of the next trial, from what finished before and nothing else."""
    if not finished:
        return dict(space.defaults)
    mixed = hashlib.sha256(f"{seed}:{name}:{len(finished)}".encode()).digest()
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP, seed=int.from_bytes(mixed[:4], "big")
    )
    study = optuna.create_study(sampler=sampler)
    study.add_trials(finished)
    proposed: dict[str, Any] = study.ask(_distributions(space.ranges)).params
    return proposed


def _tried(
    parameters: Mapping[str, Any],
    ranges: Mapping[str, Range],
    make: Callable[[Mapping[str, Any]], Method],
    objective: Callable[[Method], Evaluation],
    marks: Mapping[str, Any] = MappingProxyType({}),
) -> FrozenTrial:
    """A finished trial, or one that failed with its reason."""
    stated = {"params": dict(parameters), "distributions": _distributions(ranges)}
    try:
        found = objective(make(parameters))
        if not math.isfinite(found.gap):
            raise ExpungeError(f"The average gap is {found.gap}; the model has diverged.")
    except Exception as error:  # a method may fail in any way; the other trials go on
        return create_trial(
            state=TrialState.FAIL, user_attrs={**marks, "reason": reason_of(error)}, **stated
        )
    figures = {
        **marks,
        "parts": dict(found.parts),
        "held-out": [None if math.isnan(s) else s for s in found.scores.held_out],
        "forget rows": list(found.scores.forget_rows),
        "retained": found.scores.retained,
        "seconds": found.seconds,
    }
    return create_trial(value=found.gap, user_attrs=figures, **stated)


def _read(stored: FrozenTrial, number: int) -> Trial:
    figures = dict(stored.user_attrs)
    reason, preset = figures.pop("reason", None), figures.pop(MARK, False)
    return Trial(number, stored.params, stored.value, figures, reason, preset)


def _given(method: Method, _: Mapping[str, Any]) -> Method:
    return method


def _distributions(ranges: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    return {name: _distribution(given) for name, given in ranges.items()}


def _distribution(given: Range) -> BaseDistribution:
    if isinstance(given, Choice):
        return CategoricalDistribution(given.values)
    if isinstance(given, WholeNumber):
        return IntDistribution(given.low, given.high)
    return FloatDistribution(given.low, given.high, log=isinstance(given, LogUniform))
