"""Facts about keys of submissions: the same body is the same request, another body is told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from small_model import ASCENT, OPEN, Working

from expunge.ledger.asking import seal
from expunge.ledger.scope import Scope
from expunge.ledger.submitting import Submission, submit

Make = Callable[..., Working]
SOON = (datetime.now(UTC) + timedelta(days=9)).isoformat()
FIRST = Submission(
    Scope("a request", "subject", ("writer 1", "writer 2")),
    **ASCENT,
    strength=0.5,
    deadline=SOON,
    key="ticket-1",
    metadata={"ticket": 1, "who": "somebody"},
)


@pytest.fixture
def made(working: Make) -> Working:
    return working(policy=OPEN)


def test_the_same_body_under_a_key_is_the_first_request(made: Working) -> None:
    first = submit(made.ledger, "digits", FIRST)
    assert (first.repeated, first.same) == (False, True)
    utc = datetime.fromisoformat(SOON).astimezone(UTC).isoformat().replace("+00:00", "Z")
    for again in (FIRST, replace(FIRST, deadline=utc), replace(FIRST, deadline=None)):
        found = submit(made.ledger, "digits", again)
        assert (found.request, found.repeated, found.same) == (first.request, True, True)
    assert len(made.rows("requests")) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"scope": Scope("a request", "subject", ("writer 1",))},
        {"scope": Scope("a request", "id", ("writer 1", "writer 2"))},
        {"scope": Scope("another name", "subject", ("writer 1", "writer 2"))},
        {"scope": Scope("a request", "no such column", ("writer 1",))},
        {"method": "negation", "parameters": {}},
        {"parameters": {**ASCENT["parameters"], "epochs": 1}},
        {"method": None, "parameters": {}},
        {"aggregation": "mean"},
        {"strength": 1.0},
        {"strength": None},
        {"deadline": (datetime.now(UTC) + timedelta(days=8)).isoformat()},
        {"priority": 1},
        {"metadata": {}},
    ],
)
def test_another_body_under_a_key_is_told_and_changes_nothing(
    made: Working, change: dict[str, Any]
) -> None:
    first = submit(made.ledger, "digits", FIRST)
    before = made.counts()
    found = submit(made.ledger, "digits", replace(FIRST, **change))
    assert (found.request, found.repeated, found.same) == (first.request, True, False)
    assert made.counts() == before


def test_of_a_sealed_request_what_is_left_is_compared(made: Working) -> None:
    first = submit(made.ledger, "digits", FIRST)
    made.work()
    seal(made.ledger, "digits")
    made.work()
    same = submit(made.ledger, "digits", replace(FIRST, metadata={}))
    assert (same.request, same.same, same.state) == (first.request, True, "published")
    other = replace(FIRST, scope=Scope("a request", "subject", ("writer 3",)))
    assert submit(made.ledger, "digits", other).same is False
