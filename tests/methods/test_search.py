"""Ranges of hyper-parameters: the paper's defaults lie in them, and wrong ones are refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from expunge import registry
from expunge.errors import ExpungeError
from expunge.methods.search import (
    Choice,
    LogUniform,
    Range,
    Uniform,
    WholeNumber,
    space_of,
)


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_registered_method_declares_ranges_that_hold_its_defaults(name: str) -> None:
    kind = registry.load("methods", name)
    space = space_of(kind)
    assert space.declared
    for field, given in space.ranges.items():
        assert given.holds(space.defaults[field])
        assert space.defaults[field] == getattr(kind(), field)


@dataclass(frozen=True)
class Undeclared:
    epochs: int = 3
    learning_rate: float = 1e-4
    kept: float = 0.3
    beta: float = 0.5
    sequential: bool = False
    layers: int = 2


def test_well_known_fields_get_ranges_around_their_defaults_and_the_note_says_so() -> None:
    space = space_of(Undeclared)
    assert set(space.ranges) == {"epochs", "learning_rate", "kept", "beta"}
    assert space.ranges["epochs"] == WholeNumber(1, 10)
    assert all(r.holds(space.defaults[n]) for n, r in space.ranges.items())
    assert "derived" in space.note


def test_a_class_without_known_fields_has_nothing_to_tune() -> None:
    @dataclass(frozen=True)
    class Plain:
        layers: int = 2
        learning_rate: float = 0.0  # no scale to vary

    assert space_of(Plain).note == "nothing to tune"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"epochs": WholeNumber(5, 9)}, "does not hold its default 3"),
        ({"rate": LogUniform(1.0, 2.0)}, "names 'rate'"),
        ({"epochs": (1, 2)}, "LogUniform, Uniform, WholeNumber or Choice"),
        ({"sequential": Choice((0, 1))}, "does not hold its default False"),
        ([("epochs", WholeNumber(1, 9))], "a list"),
    ],
)
def test_a_wrong_declaration_is_refused(declared: Any, said: str) -> None:
    @dataclass(frozen=True)
    class Wrong(Undeclared):
        search: ClassVar[Mapping[str, Range]] = declared

    with pytest.raises(ExpungeError, match=said):
        space_of(Wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LogUniform(0.0, 1.0),
        lambda: Uniform(1.0, 1.0),
        lambda: Uniform(0.0, float("inf")),
        lambda: WholeNumber(3, 2),
        lambda: Choice((1,)),
        lambda: Choice(("a", "a")),
    ],
)
def test_an_empty_range_is_refused(wrong: Any) -> None:
    with pytest.raises(ExpungeError, match="expected"):
        wrong()
