"""Facts about what is taken back before it was begun, and about what is tried again."""

from collections.abc import Callable
from typing import Any

import pytest
from small_model import ASCENT, STRICT, Working

from expunge.errors import ExpungeError
from expunge.ledger import queueing
from expunge.ledger.asking import cancel, retry, revoke, seal
from expunge.ledger.scope import Scope
from expunge.ledger.submitting import Submission, submit
from expunge.ledger.verifying import verify
from expunge.ledger.worker import Worker

Make = Callable[..., Working]
RUIN: dict[str, Any] = {
    "method": "gradient-ascent",
    "parameters": {"epochs": 1, "learning_rate": 0.05},
}
WHY = ("admin", "asked in error")


def refused(made: Working, call: Callable[[], object]) -> str:
    before = made.counts()
    with pytest.raises(ExpungeError) as told:
        call()
    assert made.counts() == before
    return str(told.value)


def test_a_request_that_waits_is_withdrawn_and_others_are_answered_without_it(
    working: Make,
) -> None:
    made, without = working(), working()
    ids = [made.ask("subject", f"writer {i}", **ASCENT) for i in range(3)]
    for i in (0, 2):
        without.served("subject", f"writer {i}", **ASCENT)
    assert cancel(made.ledger, ids[1], *WHY) == "request 2"
    made.work()
    assert [made.state(r) for r in ids] == [
        ("published", None),
        ("withdrawn", "cancelled"),
        ("published", None),
    ]
    assert made.version()["weights_digest"] == without.version()["weights_digest"]
    [use] = made.rows("uses", owner=f"request:{ids[1]}", role="reason")
    assert b"asked in error" in made.ledger.read(use["address"])
    assert verify(made.ledger).faults == ()
    assert "withdrawn already" in refused(made, lambda: cancel(made.ledger, ids[1], *WHY))
    assert "cancelled before" in refused(made, lambda: revoke(made.ledger, ids[1], *WHY))


def test_a_request_of_a_run_that_was_queued_leaves_the_others_of_it(working: Make) -> None:
    made = working(policy=STRICT.model_copy(update={"batch": 2}))
    first, second = (made.ask("subject", f"writer {i}", **ASCENT) for i in (1, 2))
    [run] = queueing.due(made.ledger)
    cancel(made.ledger, first, *WHY)
    assert made.row("runs", id=run["id"])["state"] == "cancelled"
    assert made.conduct(run["id"]) == "cancelled"
    assert made.work() == ["published"]
    assert [made.state(r)[0] for r in (first, second)] == ["withdrawn", "published"]


def test_a_run_that_is_cancelled_while_a_worker_takes_it_up_does_nothing(working: Make) -> None:
    """The worker has read the run before it was cancelled, and marks it as running after."""
    made = working()
    request = made.ask("subject", "writer 1", **ASCENT)
    [run] = queueing.due(made.ledger)
    cancelling = iter([True])

    class Late(Working):
        def step(self, name: str, function: object, *arguments: object) -> object:
            for _ in cancelling:
                cancel(made.ledger, request, *WHY)
            return super().step(name, function, *arguments)

    assert Late(made.ledger).conduct(run["id"]) == "cancelled"
    assert made.state(request) == ("withdrawn", "cancelled")
    assert len(made.rows("versions")) == 1


def test_a_queued_revocation_and_a_queued_seal_are_cancelled(working: Make) -> None:
    made = working()
    request = made.served("subject", "writer 1", **ASCENT)
    before = made.version()
    revocation = revoke(made.ledger, request, *WHY)
    said = refused(made, lambda: cancel(made.ledger, request, *WHY))
    assert revocation in said
    assert cancel(made.ledger, revocation, *WHY) == "the revocation"
    sealing = seal(made.ledger, "digits")
    assert cancel(made.ledger, sealing, *WHY) == "the seal"
    assert Worker(made.ledger).until_idle() == {}
    assert made.version() == before
    assert made.state(request) == ("published", None)
    assert "ended already" in refused(made, lambda: cancel(made.ledger, sealing, *WHY))
    revoke(made.ledger, request, *WHY)  # it may be asked for again
    assert made.work() == ["published"]
    assert verify(made.ledger).faults == ()


def test_what_cannot_be_cancelled_is_said_in_a_sentence_and_writes_nothing(working: Make) -> None:
    made = working()
    request = made.ask("subject", "writer 1", **ASCENT)

    def said(what: str, role: str = "admin", reason: str = "an error") -> str:
        return refused(made, lambda: cancel(made.ledger, what, role, reason))

    assert "no request or run 'r0'" in said("r0")
    assert "'guest'" in said(request, role="guest")
    assert "--reason" in said(request, reason=" ")
    [run] = queueing.due(made.ledger)
    assert "answers requests" in said(run["id"])
    queueing.start(made.ledger, run["id"])
    assert "worked on already" in said(request)
    made.work()
    assert "expunge ledger revoke" in said(request)
    queued = revoke(made.ledger, request, *WHY)
    queueing.start(made.ledger, queued)
    assert "has begun" in said(queued)


def test_a_refused_request_is_tried_again_as_it_was_asked(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(policy=STRICT)
    request = submit(made.ledger, "digits", asked_with("k")).request
    made.work()
    assert made.state(request) == ("refused", "gate")
    again = submit(made.ledger, "digits", asked_with("k"))
    assert (again.request, again.repeated, again.state) == (request, True, "refused")

    retry(made.ledger, request)
    assert "is received" in refused(made, lambda: retry(made.ledger, request))
    assert made.work() == ["refused"]  # the gate is as it was

    retry(made.ledger, request)
    monkeypatch.setattr("expunge.ledger.weighing.checks", lambda *_: [])
    assert made.work() == ["published"]
    assert made.state(request) == ("published", None)
    assert [a["outcome"] for a in made.rows("attempts")].count("passed") == 1
    assert len(made.rows("runs")) == 3
    with made.ledger.database.reading() as connection:
        kinds = connection.exec_driver_sql("SELECT kind FROM events").scalars()
        assert list(kinds).count("retried") == 2
    assert verify(made.ledger).faults == ()
    assert "is published" in refused(made, lambda: retry(made.ledger, request))


def asked_with(key: str) -> Submission:
    return Submission(Scope("threes", "label", ("3",)), key=key, **RUIN)


def test_a_guarded_request_is_tried_again_behind_its_guard(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(policy=STRICT.model_copy(update={"guard_first": True}))
    request = made.served("label", "8", **RUIN)
    assert made.state(request) == ("guarded", "gate")
    retry(made.ledger, request)
    assert made.state(request)[0] == "guarded"
    assert "tried again already" in refused(made, lambda: retry(made.ledger, request))
    monkeypatch.setattr("expunge.ledger.weighing.checks", lambda *_: [])
    assert made.work() == ["published"]
    causes = [v["cause"] for v in sorted(made.rows("versions"), key=lambda v: v["number"])]
    assert causes == ["registration", "guard", "request"]  # the guard is not published twice
    assert made.state(request) == ("published", None)


def test_a_request_that_was_revoked_meanwhile_is_not_answered(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run was interrupted behind the guard, and the revocation was carried out first."""
    made = working(policy=STRICT.model_copy(update={"guard_first": True}))
    request = made.served("label", "8", **RUIN)
    assert made.state(request) == ("guarded", "gate")
    monkeypatch.setattr("expunge.ledger.weighing.checks", lambda *_: [])
    retry(made.ledger, request)
    [run] = queueing.due(made.ledger)
    queueing.interrupt(made.ledger, run["id"])
    revocation = revoke(made.ledger, request, *WHY)
    assert made.conduct(revocation) == "published"
    withdrawn = made.version()
    assert made.conduct(run["id"]) == "answered"
    assert made.version() == withdrawn
    assert made.state(request)[0] == "withdrawn"
    assert verify(made.ledger).faults == ()


def test_a_request_whose_revocation_waits_is_not_tried_again(working: Make) -> None:
    made = working(policy=STRICT.model_copy(update={"guard_first": True}))
    request = made.served("label", "8", **RUIN)
    revocation = revoke(made.ledger, request, *WHY)
    assert revocation in refused(made, lambda: retry(made.ledger, request))
    assert made.work() == ["published"]
    assert made.state(request)[0] == "withdrawn"
