"""Facts about the pipeline: order, batches, answers without work, the gate, repairs, two phases."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_model import ASCENT, OPEN, STRICT, Dying, Killed, Working, tables

from expunge.errors import ExpungeError
from expunge.ledger import answering, looking, queueing
from expunge.ledger.certificate import verified
from expunge.ledger.measuring import Figures, RequestFigures, checks
from expunge.ledger.policy import (
    Gate,
    OtherAggregation,
    OtherMethod,
    Policy,
    Retraining,
    Strength,
)
from expunge.ledger.runs import standing_of
from expunge.ledger.serving import built
from expunge.ledger.verifying import verify

Make = Callable[..., Working]
STRONG = {"method": "gradient-ascent", "parameters": {"epochs": 3, "learning_rate": 0.05}}
"""Ruins the model."""


def account(working: Working, request: str) -> Any:
    return json.loads(working.ledger.read(working.row("requests", id=request)["account"]))


def test_requests_are_answered_in_their_order_and_larger_priorities_before(working: Make) -> None:
    made = working()
    first = made.ask("subject", "writer 1", **ASCENT)
    second = made.ask("subject", "writer 2", **ASCENT)
    urgent = made.ask("subject", "writer 3", priority=5, **ASCENT)

    assert made.work() == ["published"] * 3
    order = [
        json.loads(run["requests"])
        for run in sorted(made.rows("runs"), key=lambda run: run["created_at"])
    ]
    assert order == [[urgent], [first], [second]]
    assert {made.state(r) for r in (first, second, urgent)} == {("published", None)}
    assert verify(made.ledger).faults == ()


def test_a_policy_answers_several_requests_in_one_version(working: Make) -> None:
    made = working(policy=OPEN.model_copy(update={"batch": 2}))
    ids = [made.ask("subject", f"writer {i}", **ASCENT) for i in range(3)]

    assert made.work() == ["published", "published"]
    stated = verified(
        made.ledger.read(made.row("versions", number=1)["certificate"]), made.ledger.keys.public
    )["predicate"]
    both = {made.row("requests", id=r)["scope_hash"] for r in ids[:2]}
    assert set(stated["request_hashes"]) == both == set(stated["strengths"])
    assert stated["kinds"] == {"subject": 2}


def test_a_refused_batch_is_split_and_holds_up_nobody(working: Make) -> None:
    made = working(policy=STRICT.model_copy(update={"batch": 2}))
    harmless = made.ask("subject", "writer 1", **ASCENT)
    ruinous = made.ask("subject", "writer 2", **STRONG)
    after = made.ask("subject", "writer 3", **ASCENT)

    assert made.work() == ["split", "published", "refused", "published"]
    assert made.state(harmless) == made.state(after) == ("published", None)
    assert made.state(ruinous) == ("refused", "gate")


def test_a_batch_with_a_request_that_fails_is_split(working: Make) -> None:
    made = working(policy=OPEN.model_copy(update={"batch": 2}))
    harmless = made.ask("subject", "writer 1", **ASCENT)
    failing = made.ask("label", "2", method="negation")  # no strength forgets this far

    assert made.work()[0] == "split"
    assert made.state(harmless) == ("published", None)
    assert made.state(failing) == ("failed", "error")
    assert "Take another" in account(made, failing)["error"]


def test_what_is_not_in_the_training_data_is_answered_with_the_evidence(working: Make) -> None:
    made = working()
    request = made.served("subject", "nobody")

    assert made.state(request) == ("answered", "not in the training data")
    told = account(made, request)
    assert told["values without a row"] == ["nobody"]
    assert told["searched"] == {"rows": 1078, "column": "subject"}
    assert made.version()["number"] == 0


def test_what_is_forgotten_already_is_answered_with_the_rows(working: Make) -> None:
    made = working()
    ids = [str(name) for name in tables()[0]["id"][:3]]
    made.served("id", *ids, **ASCENT)
    again = made.served("id", ids[0], ids[2])

    assert made.state(again) == ("answered", "already forgotten")
    assert account(made, again)["already forgotten"] == [ids[0], ids[2]]


def test_a_scope_that_is_forgotten_in_part_is_answered_whole(working: Make) -> None:
    made = working()
    ids = [str(name) for name in tables()[0]["id"][:3]]
    made.served("id", ids[0], **ASCENT)
    both = made.served("id", ids[0], ids[1], **ASCENT)

    assert account(made, both)["already forgotten"] == [ids[0]]
    assert made.row("requests", id=both)["row_count"] == 2


def test_everything_is_refused(working: Make) -> None:
    made = working()
    request = made.served("label", *map(str, range(10)))
    assert made.state(request) == ("refused", "names every row")


def test_an_idempotency_key_gives_the_first_request_and_writes_nothing(working: Make) -> None:
    made = working()
    first = made.ask("subject", "writer 1", key="ticket 7")
    before = made.counts()

    assert made.ask("subject", "writer 2", key="ticket 7") == first
    assert made.counts() == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"column": "person"}, "'person'"),
        ({"values": ()}, "no value"),
        ({"method": "no-such-method"}, "'no-such-method'"),
        ({"method": "gradient-ascent", "parameters": {"colour": 1}}, "colour"),
        ({"parameters": {"epochs": 1}}, "without a method"),
        ({"aggregation": "no-such-rule"}, "'no-such-rule'"),
        ({"deadline": "tomorrow"}, "'tomorrow'"),
        ({"deadline": "2020-01-01T00:00:00+00:00"}, "past"),
        ({"values": ("writer 999",), "known": True}, "'writer 999'"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence_and_writes_nothing(
    working: Make, changes: dict[str, Any], named: str
) -> None:
    made = working()
    before = made.counts()
    asked = {"column": "subject", "values": ("writer 1",), **changes}
    column, values = asked.pop("column"), asked.pop("values")

    with pytest.raises(ExpungeError, match=named) as refused:
        made.ask(column, *values, **asked)

    assert "\n" not in str(refused.value)
    assert made.counts() == before


def test_an_unknown_model_is_said(working: Make) -> None:
    made = replace(working(), model="no-such-model")
    with pytest.raises(ExpungeError, match="'no-such-model'"):
        made.ask("subject", "writer 1")


@pytest.mark.parametrize("duplicates", ["ignore", "report", "include"])
def test_rows_that_repeat_a_named_one_follow_the_policy(working: Make, duplicates: str) -> None:
    made = working(policy=OPEN.model_copy(update={"duplicates": duplicates}))
    request = made.served("subject", "writer 3", **ASCENT)
    named = sum(name == "writer 3" for name in tables()[0]["subject"])
    told = account(made, request).get("copies")

    found = made.row("requests", id=request)["row_count"]
    if duplicates == "ignore":
        assert told is None
    else:
        assert told["found"] == len(told["ids"]) > 0
    assert found == named + (told["found"] if duplicates == "include" else 0)


def test_the_gate_refuses_lost_accuracy_and_every_repair_is_put_down(working: Make) -> None:
    repairs = (
        Strength(factors=(0.9, 0.01)),
        OtherAggregation(name="mean"),
        OtherMethod(name="negation"),
        OtherMethod(name="gradient-ascent", parameters={"epochs": 1, "learning_rate": 1.0}),
        OtherMethod(name="gradient-difference", parameters={"epochs": 9, "learning_rate": 3e-4}),
        Retraining(),
    )
    made = working(policy=STRICT.model_copy(update={"repairs": repairs}))
    request = made.served("label", "2", **STRONG)

    tried = [(a["what"], a["outcome"]) for a in looking.show(made.ledger, request)["attempts"]]
    assert tried[0] == ("as asked", "refused: kept")
    assert [what for what, _ in tried[1:3]] == ["strength x 0.9", "strength x 0.01"]
    assert tried[3] == ("aggregation mean", "refused: kept")
    assert tried[4] == ("method", "could not be tried")  # no strength forgets this far
    assert tried[5] == ("method gradient-ascent", "refused: kept")
    assert tried[6] == ("method gradient-difference", "passed")  # and no further one
    assert len(tried) == 7
    assert made.state(request) == ("published", None)


def test_a_policy_with_an_unknown_repair_is_refused_before_anything_is_made(
    working: Make,
) -> None:
    for repair in (OtherMethod(name="no-such-method"), OtherAggregation(name="no-such-rule")):
        with pytest.raises(ExpungeError, match="no-such-"):
            working(policy=OPEN.model_copy(update={"repairs": (repair,)}))


def test_retraining_as_a_repair_makes_the_state_retrained(working: Make) -> None:
    made = working(policy=STRICT.model_copy(update={"repairs": (Retraining(),)}))
    made.served("subject", "writer 1", **ASCENT)
    assert made.version()["deletion_state"] == "edited, base kept"
    made.served("label", "8", **STRONG)
    assert made.version()["deletion_state"] == "retrained"
    made.served("subject", "writer 2", **ASCENT)
    assert made.version()["deletion_state"] == "edited, base kept"
    assert verify(made.ledger).faults == ()


def test_a_row_that_comes_back_is_a_re_emergence() -> None:
    own = RequestFigures("class", 5, 0.9, 0.1, 0.4, 0.1, "chance")
    figures = Figures("accuracy", "higher", 1.0, 0.9, 0.9, {"r1": own})
    found = {check.name: check.passed for check in checks(figures, Gate(re_emergence=0.2), [])}
    assert found == {"kept": True, "re-emergence": False}


def test_a_request_that_brings_an_earlier_one_back_is_refused(working: Make) -> None:
    made = working(policy=STRICT)
    eights = made.served("label", "8")
    weights = made.version()["weights_digest"]
    # the mean of two changes is half of each
    back = made.served("label", "3", aggregation="mean")

    assert "re-emergence" in looking.show(made.ledger, back)["attempts"][0]["outcome"]
    assert made.state(back) == ("refused", "gate")
    assert made.state(eights) == ("published", None)
    assert made.version()["weights_digest"] == weights


def test_a_guard_is_published_first_and_the_weights_are_those_without_it(working: Make) -> None:
    plain = working(policy=STRICT)
    plain.served("label", "8")
    made = working(policy=STRICT.model_copy(update={"guard_first": True}))
    request = made.served("label", "8")

    versions = sorted(made.rows("versions"), key=lambda v: v["number"])
    assert [v["cause"] for v in versions] == ["registration", "guard", "request"]
    assert [v["deletion_state"] for v in versions] == [None, "suppressed", "edited, base kept"]
    assert versions[1]["weights_digest"] == versions[0]["weights_digest"]
    assert versions[2]["weights_digest"] == plain.version()["weights_digest"]
    for version, state in zip(versions[1:], ("suppressed", "edited, base kept"), strict=True):
        stated = verified(made.ledger.read(version["certificate"]), made.ledger.keys.public)
        assert stated["predicate"]["deletion_state"] == state
        assert bool(stated["predicate"]["guards"]) == (state == "suppressed")
    assert made.state(request) == ("published", None)
    figures = looking.show(made.ledger, request)["figures"]
    assert figures["before"] > 0.9  # not the level behind the guard
    assert verify(made.ledger).faults == ()


def test_a_guard_stays_where_the_weights_are_refused_and_is_made_for_later_weights(
    working: Make,
) -> None:
    made = working(policy=STRICT.model_copy(update={"guard_first": True}))
    guarded = made.served("label", "8", **STRONG)
    assert made.state(guarded) == ("guarded", "gate")

    later = made.served("label", "3")
    assert made.state(later) == ("published", None)
    assert made.version()["deletion_state"] == "suppressed"
    version = built(made.ledger, made.model)
    standing = standing_of(made.ledger, made.row("models", name="digits")["id"])
    eights = torch.tensor(standing.material.train_table["label"][:]) == 8
    batch = standing.material.train.batch(eights.nonzero().reshape(-1))
    with torch.no_grad():
        answers = version.model(batch["image"]).argmax(1)
    assert (answers == 8).float().mean() < 0.2
    assert looking.status(made.ledger)["models"]["digits"]["requests"]["guarded"] == 1
    assert verify(made.ledger).faults == ()


def test_a_fault_of_a_method_fails_its_request_alone(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    first = made.ask("subject", "writer 1", **ASCENT)
    second = made.ask("subject", "writer 2", **ASCENT)
    real, faults = answering.unlearn, iter([RuntimeError("of writer 1")])

    def faulty(*arguments: Any) -> str:
        for fault in faults:
            raise fault
        return real(*arguments)

    monkeypatch.setattr(answering, "unlearn", faulty)

    assert made.work() == ["failed", "published"]
    assert made.state(first) == ("failed", "fault: RuntimeError")
    assert account(made, first) == {"error": "RuntimeError: of writer 1"}
    assert made.state(second) == ("published", None)


def test_a_run_is_resumed_after_any_step(working: Make) -> None:
    """A run that is begun again after each of its steps publishes once, and the same weights."""
    plain = working()
    plain.served("subject", "writer 1", **ASCENT)
    policy = OPEN.model_copy(update={"guard_first": True})
    made = working(policy=policy)
    request = made.ask("subject", "writer 1", **ASCENT)
    [row] = queueing.due(made.ledger)
    kills = 0
    while made.row("runs", id=row["id"])["state"] != "published":
        kills += 1
        with suppress(Killed):
            Dying(made.ledger, after=kills).conduct(row["id"])

    assert kills > 8
    assert [v["cause"] for v in made.rows("versions")] == ["registration", "guard", "request"]
    assert made.state(request) == ("published", None)
    assert made.version()["weights_digest"] == plain.version()["weights_digest"]
    assert verify(made.ledger).faults == ()


def test_a_policy_file_that_is_at_odds_with_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="no_such_key"):
        Policy.model_validate({"no_such_key": 1})
