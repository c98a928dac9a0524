"""Facts about revocation: the weights are those of a ledger that never had the request."""

from collections.abc import Callable
from typing import Any

import pytest
from small_model import ASCENT, OPEN, Working, tables

from expunge.errors import ExpungeError
from expunge.ledger.asking import revoke, seal
from expunge.ledger.looking import history
from expunge.ledger.queueing import due
from expunge.ledger.steps import current_history
from expunge.ledger.verifying import verify

Make = Callable[..., Working]
WITH_RETAIN: dict[str, Any] = {}
"""The model's own method reads retain data."""
SEQUENTIAL = {**ASCENT, "parameters": {**ASCENT["parameters"], "sequential": True}}
RETRAIN = {"method": "retrain"}
Asked = tuple[str, str, dict[str, Any]]


def asked(*methods: dict[str, Any]) -> list[Asked]:
    return [("subject", f"writer {i}", method) for i, method in enumerate(methods)]


@pytest.mark.parametrize(
    ("requests", "place"),
    [
        (asked(dict(ASCENT), dict(ASCENT), dict(ASCENT)), 1),
        (asked(dict(ASCENT), WITH_RETAIN, WITH_RETAIN), 0),
        (asked(dict(ASCENT), dict(ASCENT), SEQUENTIAL, dict(ASCENT)), 1),
        (asked(dict(ASCENT), SEQUENTIAL, dict(ASCENT)), 1),
        (asked(dict(ASCENT), RETRAIN, dict(ASCENT)), 0),
        (asked(dict(ASCENT), {**ASCENT, "aggregation": "mean"}, dict(ASCENT)), 1),
        (asked({**ASCENT, "strength": 0.5}, dict(ASCENT)), 1),
    ],
    ids=["folded", "retain data", "before new weights", "new weights", "retrained", "rule", "last"],
)
def test_the_weights_are_those_of_the_run_without_it(
    working: Make, requests: list[Asked], place: int
) -> None:
    made, without = working(), working()
    ids = [made.served(column, value, **more) for column, value, more in requests]
    for column, value, more in requests[:place] + requests[place + 1 :]:
        without.served(column, value, **more)

    before = made.version()["weights_digest"]
    revoke(made.ledger, ids[place], "admin", "asked by mistake")
    assert made.work() == ["published"]

    assert made.state(ids[place]) == ("withdrawn", None)
    assert made.version()["cause"] == "revocation"
    assert made.version()["weights_digest"] == without.version()["weights_digest"] != before
    assert made.weights() == without.weights()
    assert made.version()["deletion_state"] == without.version()["deletion_state"]
    assert verify(made.ledger).faults == ()


def test_the_only_request_leaves_the_registered_weights(working: Make) -> None:
    made = working()
    base = made.version()["weights_digest"]
    revoke(made.ledger, made.served("label", "8"), "admin", "by mistake")
    made.work()
    assert made.version()["weights_digest"] == base
    assert made.version()["deletion_state"] is None


def test_a_delta_that_did_not_see_the_rows_is_not_made_again(working: Make) -> None:
    made = working()
    first = made.served("subject", "writer 1", **ASCENT)
    second = made.served("subject", "writer 2", **ASCENT)
    model = made.row("models", name="digits")
    [_, kept] = current_history(made.ledger, model).answers()

    revoke(made.ledger, first, "admin", "by mistake")
    made.work()

    [left] = current_history(made.ledger, model).answers()
    assert left.request == second
    assert left.changes == kept.changes


def test_rows_of_a_later_request_stay_forgotten(working: Make) -> None:
    """Of two requests for the same rows, one is enough."""
    made, without = working(), working()
    ids = [str(name) for name in tables()[0]["id"][:4]]
    first = made.served("id", *ids[:2], **ASCENT)
    second = made.served("id", *ids[1:], **ASCENT)
    third = made.served("id", ids[0], **ASCENT)
    assert made.state(third) == ("answered", "already forgotten")
    without.served("id", *ids[1:], **ASCENT)
    without.served("id", ids[0], **ASCENT)

    revoke(made.ledger, first, "admin", "by mistake")
    made.work()

    assert made.state(second) == made.state(third) == ("published", None)
    assert made.weights() == without.weights()


def test_others_are_measured_again_and_the_withdrawn_one_is_not(working: Make) -> None:
    made = working()
    first = made.served("label", "8")
    second = made.served("subject", "writer 2", **ASCENT)
    revoke(made.ledger, first, "admin", "by mistake")
    made.work()

    matrix = {r["request"]: r["after"] for r in history(made.ledger, "digits")["requests"]}
    assert matrix[first][-1] is None
    assert matrix[second][-1] is not None
    assert matrix[first][1] is not None


@pytest.mark.parametrize(
    ("role", "reason", "named"),
    [("guest", "by mistake", "'guest'"), ("admin", "  ", "reason")],
)
def test_a_role_that_may_and_a_reason_are_needed(
    working: Make, role: str, reason: str, named: str
) -> None:
    made = working()
    request = made.served("subject", "writer 1", **ASCENT)
    before = made.counts()
    with pytest.raises(ExpungeError, match=named):
        revoke(made.ledger, request, role, reason)
    assert made.counts() == before


def test_what_cannot_be_revoked_is_said_in_a_sentence_and_writes_nothing(working: Make) -> None:
    made = working()
    waiting = made.ask("subject", "writer 1", **ASCENT)

    def refused(request: str) -> str:
        before = made.counts()
        with pytest.raises(ExpungeError) as told:
            revoke(made.ledger, request, "admin", "by mistake")
        assert made.counts() == before
        return str(told.value)

    assert "no request 'r0'" in refused("r0")
    assert "received" in refused(waiting)
    made.work()
    revoke(made.ledger, waiting, "admin", "by mistake")
    assert "asked for already" in refused(waiting)
    made.work()
    assert "revoked already" in refused(waiting)
    sealed = made.served("subject", "writer 2", **ASCENT)
    seal(made.ledger, "digits")
    made.work()
    assert "sealed" in refused(sealed)


def test_a_revocation_that_came_too_late_fails_and_changes_nothing(working: Make) -> None:
    made = working()
    request = made.served("subject", "writer 1", **ASCENT)
    seal(made.ledger, "digits")
    revoke(made.ledger, request, "admin", "by mistake")  # still possible: the seal waits
    assert made.work() == ["published", "failed"]
    assert made.state(request) == ("published", None)
    assert made.version()["cause"] == "seal"


def test_a_seal_of_what_was_revoked_meanwhile_leaves_it_out(working: Make) -> None:
    made = working()
    first = made.served("subject", "writer 1", **ASCENT)
    second = made.served("subject", "writer 2", **ASCENT)
    revoke(made.ledger, second, "admin", "by mistake")
    seal(made.ledger, "digits")
    assert made.work() == ["published", "published"]
    assert made.row("requests", id=first)["sealed"]
    assert not made.row("requests", id=second)["sealed"]


def test_a_queue_that_is_never_empty_lets_a_revocation_pass(working: Make) -> None:
    made = working()
    request = made.served("subject", "writer 1", **ASCENT)
    made.ask("subject", "writer 2", **ASCENT)
    made.ask("subject", "writer 3", **ASCENT)
    [serving] = due(made.ledger)
    run = revoke(made.ledger, request, "admin", "by mistake")
    assert [row["id"] for row in due(made.ledger)] == [serving["id"], run]
    made.conduct(serving["id"])
    assert [row["id"] for row in due(made.ledger)] == [run]


def test_a_revocation_that_brings_others_back_is_refused(working: Make) -> None:
    gate = OPEN.gate.model_copy(update={"re_emergence": 0.1})
    made = working(policy=OPEN.model_copy(update={"gate": gate}))
    # two changes forget the eights; one of them alone does not
    train = tables()[0]
    pairs = zip(train["id"], train["label"], strict=True)
    ids = [str(name) for name, label in pairs if label == 8]
    half = len(ids) // 2
    weak = {"method": "gradient-difference", "parameters": {"epochs": 5, "learning_rate": 3e-4}}
    first = made.served("id", *ids[:half], **weak)
    made.served("id", *ids[half:], **{**ASCENT, "strength": 0.01})
    revoke(made.ledger, first, "admin", "by mistake")
    assert made.work() == ["refused"]
    assert made.state(first) == ("published", None)
