"""Comparison: every method on the same seeds, as it comes and at equal retained performance.

With a recipe, the base and the oracle are retrained for every seed; without one, only the seed of
the method varies. The factor that matches methods is found on validation rows, everything that is
reported is of test rows. What one method gave on one seed is a cell; it is stored when it is done
and used again as long as everything that it depends on is the same.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import nn

from expunge.audit.case import Case, digest_of_samples, reason_of
from expunge.audit.gap import Scores
from expunge.audit.matching import Level, matched
from expunge.audit.measure import Panel, measure
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits
from expunge.methods.presets import presets_of
from expunge.methods.protocol import Method
from expunge.run import Run
from expunge.signals.ask import logits_of, metric_of
from expunge.storage import write_bytes

ORIGINAL, ORACLE = "original", "oracle"

Variant = Literal["as it comes", "matched"]
AS_IT_COMES: Variant = "as it comes"
MATCHED: Variant = "matched"
VARIANTS: tuple[Variant, ...] = (AS_IT_COMES, MATCHED)


@dataclass(frozen=True)
class Contender:
    """A method with its hyper-parameters.

    ``chosen`` says where these come from; ``source`` is the SHA-256 of the file of its class.
    """

    name: str
    method: Method
    chosen: str
    source: str

    def parameters(self) -> dict[str, Any]:
        """The fields as JSON values; what JSON does not know, as text."""
        given: Any = self.method
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(given), default=str))
        return values


@dataclass(frozen=True)
class Outcome:
    """What a model scores on test rows (``scores``), at a factor, and its digest.

    ``validation`` is the retained score on validation rows.
    """

    variant: Variant
    factor: float
    scores: Scores
    validation: float
    model: str

    def content(self) -> dict[str, Any]:
        """As JSON values."""
        held_out = [None if math.isnan(s) else s for s in self.scores.held_out]
        found = dataclasses.asdict(self)
        return {**found, "scores": {**found["scores"], "held_out": held_out}}

    @classmethod
    def restored(cls, content: Mapping[str, Any]) -> Self:
        """From :meth:`content`."""
        scores = content["scores"]
        held_out = tuple(math.nan if s is None else float(s) for s in scores["held_out"])
        found = Scores(held_out, tuple(scores["forget_rows"]), scores["retained"])
        return cls(**{**content, "scores": found})


@dataclass(frozen=True)
class Cell:
    """One row of the table on one seed.

    ``seconds`` and ``touched`` are of answering all requests; ``peak_bytes`` is the largest memory
    of the process meanwhile, None where the system does not tell. ``failed`` says why there is no
    outcome, ``unmatched`` why there is none at equal retained performance, ``unfit`` why the method
    was not run at all. ``presets`` are the fields that a preset found, request by request.
    """

    outcomes: tuple[Outcome, ...] = ()
    base: str = ""
    seconds: float | None = None
    peak_bytes: int | None = None
    touched: Mapping[str, int] = field(default_factory=dict)
    failed: str | None = None
    unmatched: str | None = None
    unfit: str | None = None
    presets: tuple[Mapping[str, Any], ...] = ()

    def reason(self, variant: Variant) -> str | None:
        """Why there is no outcome of a variant; None where there is one."""
        return self.unfit or self.failed or (self.unmatched if variant == MATCHED else None)

    def outcome(self, variant: Variant) -> Outcome | None:
        """The outcome of a variant; original and oracle have but one."""
        return next((o for o in self.outcomes if o.variant == variant), None)

    def content(self) -> dict[str, Any]:
        """As JSON values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**fields, "outcomes": [o.content() for o in self.outcomes]}

    @classmethod
    def restored(cls, content: Mapping[str, Any]) -> Self:
        """From :meth:`content`."""
        outcomes = tuple(Outcome.restored(o) for o in content["outcomes"])
        presets = tuple(content.get("presets", ()))
        return cls(**{**content, "outcomes": outcomes, "presets": presets})


@dataclass(frozen=True)
class Cells:
    """Finished cells in a folder, one file each, under the digest of all they depend on."""

    folder: Path

    def read(self, key: str) -> Cell | None:
        """A stored cell; None where there is none or its file is damaged."""
        try:
            stored = json.loads((self.folder / f"{key}.json").read_bytes())
            if stored["sha256"] != _sha(stored["cell"]):
                return None
            return Cell.restored(stored["cell"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, key: str, depends_on: Mapping[str, object], cell: Cell) -> None:
        """Store a cell, with what it depends on beside it for the reader."""
        content = cell.content()
        stored = {"sha256": _sha(content), "depends on": depends_on, "cell": content}
        write_bytes(self.folder / f"{key}.json", json.dumps(stored, indent=1).encode())


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared on what.

    Args:
        case: model and requests; with a recipe, its base is retrained for every seed.
        validation: held-out rows on which factors are found.
        test: held-out rows that are reported.
        seeds: each once.
        tolerance: see :class:`~expunge.audit.matching.Level`.
        run: makes the run of a seed, with a meter of its own.
        setting: further JSON values that cells depend on: versions, device.
        cells: where finished cells are kept.
        oracle: the oracle of the base, for cases without a recipe.
    """

    case: Case
    validation: Panel
    test: Panel
    seeds: tuple[int, ...]
    tolerance: float
    run: Callable[[int], Run]
    setting: Mapping[str, object]
    cells: Cells
    oracle: nn.Module | None = None

    @property
    def retrains(self) -> bool:
        """Whether base and oracle are retrained for every seed."""
        return self.case.recipe is not None

    def chance(self) -> float | None:
        """What uniform guessing scores; None where guessing has no level."""
        if not isinstance(self.case.family, HasLogits):
            return None
        one = self.validation.samples.select(self.validation.retained[:1])
        logits, _ = logits_of(self.case.family, self.case.base, one, self.run(self.seeds[0]))
        return metric_of(self.case.family).chance(logits.shape[1])

    def conduct(
        self, contenders: Sequence[Contender], told: Callable[[str, int, bool], None]
    ) -> dict[tuple[str, int], Cell]:
        """Every cell, by row and seed; where a method fails or does not fit, one that says why.

        Args:
            contenders: methods with their hyper-parameters, each name once.
            told: is called with the row, the seed, and whether the cell was stored before.

        Raises:
            ExpungeError: no method fits, or a model of a seed cannot be made or measured.
        """
        self._check(contenders)
        unfit = {c.name: why for c in contenders if (why := self.case.unfit(c.method))}
        contenders = [c for c in contenders if c.name not in unfit]
        if not contenders:
            reasons = "; ".join(f"{name}: {why}" for name, why in unfit.items())
            raise ExpungeError(
                f"None of the methods fits ({reasons}); `expunge plan` lists those that do."
            )
        found = {(n, seed): Cell(unfit=why) for n, why in unfit.items() for seed in self.seeds}
        shared = self._depends_on()
        for seed in self.seeds:
            stage = _Stage(self, seed)
            rows: list[tuple[str, object, Callable[[], Cell]]] = [(ORIGINAL, None, stage.original)]
            if self.retrains or self.oracle is not None:
                rows.append((ORACLE, None, stage.oracle))
            rows += [(c.name, [c.parameters(), c.source], partial(stage.of, c)) for c in contenders]
            for name, what, make in rows:
                depends_on = {**shared, "row": name, "method": what, "seed": seed}
                key = _sha(depends_on)
                cell = self.cells.read(key)
                told(name, seed, cell is not None)
                if cell is None:
                    cell = make()
                    if cell.failed is None:  # a failure may be of the machine, so it is tried again
                        self.cells.write(key, depends_on, cell)
                found[name, seed] = cell
        return found

    def _check(self, contenders: Sequence[Contender]) -> None:
        Level(metric_of(self.case.family), 0.0, self.tolerance)  # refuses a wrong tolerance
        names = [ORIGINAL, ORACLE, *(c.name for c in contenders)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not contenders or len(set(self.seeds)) < max(1, len(self.seeds)):
            raise ExpungeError(
                f"{len(contenders)} methods on the seeds {list(self.seeds)} are to be compared"
                + (f", and {twice[0]!r} is there twice" if twice else "")
                + "; at least one method, with a name of its own, and one seed, each once, are "
                "expected."
            )

    def _depends_on(self) -> dict[str, object]:
        groups = [
            [rows.tolist() for rows in (*panel.groups, panel.retained)]
            for panel in (self.validation, self.test)
        ]
        return {
            **self.setting,
            "case": self.case.describe(),
            "validation": digest_of_samples(self.validation.samples),
            "test": digest_of_samples(self.test.samples),
            "panels": _sha(groups),
            "tolerance": self.tolerance,
            "oracle": None if self.oracle is None else digest_of(self.oracle),
        }


class _Stage:
    """One seed: its base and oracle, made when a cell first needs them."""

    def __init__(self, comparison: Comparison, seed: int) -> None:
        self._all, self._seed = comparison, seed

    @cached_property
    def case(self) -> Case:
        """The case on the base of this seed."""
        given = self._all.case
        return given.with_seed(self._seed, self._run()) if self._all.retrains else given

    @cached_property
    def _level(self) -> Level:
        original = measure(self.case.family, self.case.base, self._all.validation, self._run())
        return Level(original.metric, original.retained, self._all.tolerance)

    def original(self) -> Cell:
        """The base."""
        return self._untouched(self.case.base, None)

    def oracle(self) -> Cell:
        """The given oracle, or the recipe's."""
        if not self._all.retrains:
            assert self._all.oracle is not None
            return self._untouched(self._all.oracle, None)
        run = self._run()
        return self._untouched(self.case.retrained(run), run)

    def of(self, contender: Contender) -> Cell:
        """A method's answers, as they come and matched."""
        case, method = self.case, contender.method
        run, base = self._run(), digest_of(case.base)
        level = self._level
        tells_peak = reset_peak()
        try:
            deployment = case.answered(method, run)
            seconds, peak = run.meter.seconds, run.meter.peak_bytes if tells_peak else None
            comes = self._outcome(AS_IT_COMES, 1.0, deployment.model)
        except Exception as error:  # a method may fail in any way; the others go on
            return Cell(base=base, failed=reason_of(error))
        touched = dict(run.meter.touched)
        cell = Cell((comes,), base, seconds, peak, touched, presets=_used(deployment))
        try:
            at_level = self._matched(deployment, level)
        except Exception as error:  # a family of its own, weights far out that cannot answer
            return replace(cell, unmatched=reason_of(error))
        return replace(cell, outcomes=(comes, at_level))

    def _matched(self, deployment: Deployment, level: Level) -> Outcome:
        replaced = any(
            isinstance(change, Replacement)
            for epoch in deployment.history.epochs
            for entry in epoch.served
            for change in entry.changes
        )
        factor, model = matched(
            self.case.base, deployment.model, self._retained, level, replaced=replaced
        )
        return self._outcome(MATCHED, factor, model)

    def _untouched(self, model: nn.Module, run: Run | None) -> Cell:
        outcome = self._outcome(AS_IT_COMES, 1.0, model)
        base = digest_of(self.case.base)
        if run is None:
            return Cell((outcome,), base)
        return Cell((outcome,), base, run.meter.seconds, None, dict(run.meter.touched))

    def _outcome(self, variant: Variant, factor: float, model: nn.Module) -> Outcome:
        own = self.case.forget_rows()
        scores = Scores.asked(self.case.family, model, self._all.test, own, self._run())
        return Outcome(variant, factor, scores, self._retained(model), digest_of(model))

    def _retained(self, model: nn.Module) -> float:
        return measure(self.case.family, model, self._all.validation, self._run()).retained

    def _run(self) -> Run:
        return self._all.run(self._seed)


def _used(deployment: Deployment) -> tuple[Mapping[str, Any], ...]:
    """What presets found for each request; nothing for a method that is not at its preset."""
    served = [entry for epoch in deployment.history.epochs for entry in epoch.served]
    found = [presets_of(entry.changes) for entry in served]
    return tuple(fields for fields in found if fields is not None)


def reset_peak() -> bool:
    """Let the peak memory of this process start from what it holds now.

    Returns:
        Whether the system can do so (Linux).
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _sha(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
