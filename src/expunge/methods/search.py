"""Ranges of hyper-parameters: what a method declares that `expunge tune` may vary.

A method declares ``search: ClassVar[Mapping[str, Range]]`` beside its fields. What it does not
declare stays at the paper's default. A class without a declaration gets ranges from the field names
that the literature uses everywhere, around its own defaults, and is told so.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from expunge.errors import ExpungeError


def _check(low: float, high: float, floor: float, wanted: str) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and floor < low < high):
        raise ExpungeError(f"A range from {low} to {high} was given; {wanted} are expected.")


@dataclass(frozen=True)
class LogUniform:
    """A number from ``low`` to ``high``, both above 0, whose logarithm is spread evenly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(self.low, self.high, 0.0, "finite numbers above 0, the lower one first,")

    def holds(self, value: object) -> bool:
        """Whether the range holds a value; a default must lie in it."""
        return self.low <= _number(value) <= self.high


@dataclass(frozen=True)
class Uniform:
    """A number from ``low`` to ``high``, spread evenly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(self.low, self.high, -math.inf, "finite numbers, the lower one first,")

    def holds(self, value: object) -> bool:
        """Whether the range holds a value; a default must lie in it."""
        return self.low <= _number(value) <= self.high


@dataclass(frozen=True)
class WholeNumber:
    """A whole number from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check(self.low, self.high, -math.inf, "whole numbers, the lower one first,")

    def holds(self, value: object) -> bool:
        """Whether the range holds a value; a default must lie in it."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )


@dataclass(frozen=True)
class Choice:
    """One of several values: numbers, texts or truth values."""

    values: tuple[bool | int | float | str, ...]

    def __post_init__(self) -> None:
        if len(set(map(repr, self.values))) < max(2, len(self.values)):
            raise ExpungeError(
                f"A choice among {self.values!r} was given; at least two values, each once, are "
                "expected."
            )

    def holds(self, value: object) -> bool:
        """Whether it is one of the values; a default must be."""
        return any(value == mine and type(value) is type(mine) for mine in self.values)


Range = LogUniform | Uniform | WholeNumber | Choice

FACTORS = {"learning_rate": 30.0, "weight_decay": 10.0, "clip": 10.0}
"""How far to both sides of its default a well-known positive number is varied."""

WEIGHTS = ("alpha", "beta", "gamma", "temperature", "weight", "forget_weight", "retain_weight")
"""Names of factors in losses, varied by ten to both sides."""

LONGEST = 10
"""Epochs that are tried at least, where the default has fewer than half as many."""


@dataclass(frozen=True)
class Space:
    """What may be varied, the paper's values of it, and where the ranges come from.

    ``defaults`` holds the default of every field of ``ranges``; ``declared`` is False where the
    ranges were derived from field names.
    """

    ranges: Mapping[str, Range]
    defaults: Mapping[str, object]
    declared: bool

    @property
    def note(self) -> str:
        """Where the ranges come from, in words."""
        if not self.ranges:
            return "nothing to tune"
        names = ", ".join(self.ranges)
        return names if self.declared else f"{names} (ranges derived from the field names)"


def space_of(kind: type) -> Space:
    """The search space of a method's class.

    Args:
        kind: a frozen dataclass whose fields all have defaults.

    Raises:
        ExpungeError: a declared range names no field, is no range, or does not hold the default.
    """
    if not dataclasses.is_dataclass(kind):
        raise ExpungeError(f"{kind.__name__} is no dataclass; a method's class is expected.")
    defaults = {
        f.name: f.default
        for f in dataclasses.fields(kind)
        if f.init and f.default is not dataclasses.MISSING
    }
    declared: object = getattr(kind, "search", None)
    if declared is None:
        found = {n: r for n, v in defaults.items() if (r := _derived(n, v)) is not None}
        return Space(found, {n: defaults[n] for n in found}, False)
    if not isinstance(declared, Mapping):
        raise ExpungeError(
            f"`search` of {kind.__name__} is a {type(declared).__name__}; a mapping from field "
            "names to ranges is expected (expunge.methods.search)."
        )
    for name, given in declared.items():
        _check_declared(kind, name, given, defaults)
    return Space(dict(declared), {n: defaults[n] for n in declared}, True)


def _check_declared(kind: type, name: str, given: object, defaults: Mapping[str, object]) -> None:
    if not isinstance(given, Range):
        raise ExpungeError(
            f"`search` of {kind.__name__} gives {given!r} for {name!r}; LogUniform, Uniform, "
            "WholeNumber or Choice is expected (expunge.methods.search)."
        )
    if name not in defaults:
        raise ExpungeError(
            f"`search` of {kind.__name__} names {name!r}; the fields with a default are "
            f"{', '.join(defaults) or 'none'}. Name one of these."
        )
    if not given.holds(defaults[name]):
        raise ExpungeError(
            f"The range {given} that {kind.__name__} declares for {name!r} does not hold its "
            f"default {defaults[name]!r}, which is always the first trial; widen the range."
        )


def _derived(name: str, default: object) -> Range | None:
    """The range of a well-known field around its default; None for any other field."""
    if name == "epochs" and isinstance(default, int) and default >= 1:
        return WholeNumber(1, max(LONGEST, 2 * default))
    if not isinstance(default, float):
        return None
    if name == "kept" and 0.05 <= default <= 1:
        return Uniform(0.05, 1.0)
    factor = 10.0 if name in WEIGHTS else FACTORS.get(name)
    if factor is None or default <= 0:
        return None
    return LogUniform(default / factor, default * factor)


def _number(value: object) -> float:
    """The value as a number; NaN, which no range holds, where it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan  # type: ignore[arg-type]
