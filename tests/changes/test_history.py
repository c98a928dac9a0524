"""Histories: epochs, bases, withdrawal, and what a withdrawal makes stale."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.history import Epoch, History, Served
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError, IntegrityError
from expunge.requests import Request, Rows


def request(name: str) -> Request:
    return Request(name, Rows("subject", (name,)))


ANNA, BORIS, CARLA = request("anna"), request("boris"), request("carla")


@cache
def delta(base: str, size: float = 1.0) -> Delta:
    return Delta(base, {"weight": torch.full((2,), size)})


def served(who: Request, base: str = "base", **more: object) -> Served:
    return Served(who, (delta(base),), **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LowRank:
    """An adapter."""

    base: str

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield "weight", torch.ones(2)


@dataclass(frozen=True)
class Removed:
    """A redaction."""

    removed: dict[str, tuple[str, ...]]


def test_requests_and_deltas_come_back_in_request_order() -> None:
    history = History.of("base")
    for size, who in enumerate((ANNA, BORIS, CARLA), start=1):
        changes = (Removed({"edge": ("1-2",)}), delta("base", size))
        history = history.with_served(Served(who, changes, strength=0.1 * size))
    assert history.requests() == (ANNA, BORIS, CARLA)
    pairs = history.current.deltas()
    assert [float(d.dense("weight")[0]) for d, _ in pairs] == [1.0, 2.0, 3.0]
    assert [s for _, s in pairs] == [0.1, 0.2, pytest.approx(0.3)]


def test_a_history_is_a_value() -> None:
    empty = History.of("base")
    longer = empty.with_served(served(ANNA))
    assert empty == History((Epoch("base"),))
    assert longer.without(ANNA) == empty


def test_changes_for_another_base_are_refused() -> None:
    history = History.of("base")
    for change in (delta("other"), LowRank("other")):
        with pytest.raises(IntegrityError, match=r"'anna' was made for the base other; .* base"):
            history.with_served(Served(ANNA, (change,)))
    assert history.with_served(Served(ANNA, (LowRank("base"),))).requests() == (ANNA,)


def test_a_replacement_starts_an_epoch_on_its_own_digest() -> None:
    before, after = nn.Linear(2, 2), nn.Linear(2, 2)
    new = Replacement.of(after, before)
    history = History.of(digest_of(before)).with_served(Served(ANNA, (new,)))
    assert [epoch.base for epoch in history.epochs] == [digest_of(before), digest_of(after)]
    assert history.current.served == ()
    assert history.requests() == (ANNA,)  # asked for, whatever epoch answered it
    later = history.with_served(served(BORIS, digest_of(after)))
    assert later.requests() == (ANNA, BORIS)
    with pytest.raises(IntegrityError, match=digest_of(before)[:12]):
        history.with_served(served(BORIS, digest_of(before)))


def test_a_replacement_of_another_model_is_refused() -> None:
    base, other, after = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    history = History.of(digest_of(base))
    with pytest.raises(IntegrityError, match=digest_of(other)[:12]):
        history.with_served(Served(ANNA, (Replacement.of(after, other),)))
    # where deltas stand on the base, the replaced model is their fold, which only a fold can tell
    folded = history.with_served(served(ANNA, digest_of(base)))
    assert len(folded.with_served(Served(BORIS, (Replacement.of(after, other),))).epochs) == 2


def test_without_is_the_history_in_which_the_request_never_came() -> None:
    history = History.of("base")
    for who in (ANNA, BORIS, CARLA):
        history = history.with_served(served(who))
    direct = History.of("base").with_served(served(ANNA)).with_served(served(CARLA))
    renamed = Request("another name", BORIS.target)
    assert history.without(BORIS) == history.without(renamed) == direct


def test_a_request_outside_the_current_epoch_cannot_be_withdrawn() -> None:
    before, after = nn.Linear(2, 2), nn.Linear(2, 2)
    history = History.of(digest_of(before))
    with pytest.raises(ExpungeError, match=r"'anna' was not made of this model; .* none"):
        history.without(ANNA)
    history = history.with_served(Served(ANNA, (Replacement.of(after, before),)))
    history = history.with_served(served(BORIS, digest_of(after)))
    with pytest.raises(ExpungeError, match="A Replacement was served for 'anna'"):
        history.without(ANNA)


def test_changes_made_without_the_rows_of_a_request_are_stale_without_it() -> None:
    history = (
        History.of("base")
        .with_served(served(ANNA))
        .with_served(served(BORIS, excluded=(ANNA.digest(),)))
        .with_served(served(CARLA, excluded=(ANNA.digest(), BORIS.digest())))
    )
    assert list(history.stale_without(ANNA)) == [BORIS, CARLA]
    assert list(history.stale_without(BORIS)) == [CARLA]
    assert list(history.stale_without(CARLA)) == []
    with pytest.raises(
        ExpungeError,
        match="Withdraw 'carla', then 'boris', then 'anna'; then request 'boris', 'carla' again",
    ):
        history.without(ANNA)
    assert history.without(CARLA).requests() == (ANNA, BORIS)


def test_a_history_without_a_base_says_so() -> None:
    with pytest.raises(ExpungeError, match="no base yet"):
        History().with_served(served(ANNA))
