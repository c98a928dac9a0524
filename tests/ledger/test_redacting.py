"""Facts about redactions in a ledger: removed from what is served, certified, and brought back."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_model
from small_model import ASCENT, STRICT, Working, material

from expunge.changes.deletion import DeletionState
from expunge.changes.redaction import Redacted
from expunge.errors import ExpungeError
from expunge.ledger import runs
from expunge.ledger.asking import revoke, seal
from expunge.ledger.canonical import sha256
from expunge.ledger.certificate import Removal, verified
from expunge.ledger.past import ById, StoredHistory
from expunge.ledger.replaying import replay
from expunge.ledger.scope import Scope
from expunge.ledger.sealing import plan
from expunge.ledger.serving import Latest, built, materialise
from expunge.ledger.steps import read_figures, read_history
from expunge.ledger.verifying import verify

Make = Callable[..., Working]
RETRAIN = {"method": "retrain"}


def eights() -> set[str]:
    table: Any = material().train_table
    return {str(i) for i, label in zip(table["id"], table["label"], strict=True) if label == 8}


def removal(made: Working) -> Removal:
    envelope = made.ledger.read(made.version()["certificate"])
    return Removal.from_json(verified(envelope, made.ledger.keys.public)["predicate"])


def history(made: Working) -> StoredHistory:
    return read_history(made.ledger, made.version()["history"])


def test_request_version_served_ids_revoke(working: Make) -> None:
    made = working(policy=STRICT)
    latest = Latest(made.ledger, "digits")
    assert latest.get().removed("index") == frozenset()
    before = made.weights()

    request = made.served("label", "8", method="redact")
    assert made.state(request) == ("published", None)
    version = latest.get()
    assert version.number == 1
    assert version.removed("index") == eights()
    assert version.removed("memory") == frozenset()
    assert version.digest == before
    assert version.deletion_state == DeletionState.SUPPRESSED.value

    revoke(made.ledger, request, "admin", "by mistake")
    made.work()
    back = latest.get()
    assert (back.number, back.removed("index"), back.deletion_state) == (2, frozenset(), None)
    assert back.digest == before
    assert verify(made.ledger).holds


def test_the_certificate_names_the_redaction_and_what_it_is_held_to(working: Make) -> None:
    made = working(policy=STRICT)
    request = made.served("label", "8", method="redact", parameters={"stores": ["index", "memory"]})
    found = removal(made)
    assert found.method == "redact"
    assert found.parameters == {"redact": {"stores": ["index", "memory"]}}
    assert found.deletion_state == "suppressed"
    assert found.before == found.after
    [stored] = [c for a in history(made).answers() for c in a.changes]
    assert (stored.kind, stored.acts) == ("redaction", "input")
    assert found.guards == (stored.digest,)
    figures = {figure.name: figure for figure in found.figures}
    assert set(figures) == {"kept", f"redacted ({request})"}
    assert figures[f"redacted ({request})"].value == 0
    assert "redaction" in found.not_covered[0]
    measured = read_figures(made.ledger, made.version()).requests[request]
    assert measured.after == measured.before  # the weights still know the rows, and it is said
    assert measured.still_served == 0
    replayed = replay(made.ledger, made.ledger.read(made.version()["certificate"]))
    assert replayed.holds
    assert replayed.measured == 2


def test_who_guesses_the_rows_of_a_redaction_cannot_confirm_it_by_the_certificate(
    working: Make, tmp_path: Path
) -> None:
    made = working()
    made.served("label", "8", method="redact")
    asked = replace(Scope("?", "label", ("8",)).request(), target=ById("class", tuple(eights())))
    guessed = Redacted({"index": tuple(eights())}, {"method": "redact", "request": asked.digest()})
    guessed.save(tmp_path / "guessed")
    [answer] = history(made).guards()
    content = (tmp_path / "guessed").read_bytes()
    assert made.ledger.read(answer.changes[0].address) == content
    assert sha256(content) not in removal(made).guards


def test_a_redaction_that_misses_a_row_is_not_published(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(removed: dict[str, tuple[str, ...]], facts: dict[str, object]) -> Redacted:
        return Redacted({store: ids[1:] for store, ids in removed.items()}, facts)

    monkeypatch.setattr("expunge.methods.redact.Redacted", short)
    made = working(policy=STRICT)
    request = made.served("label", "8", method="redact")
    assert made.state(request)[0] == "refused"
    [attempt] = made.rows("attempts")
    assert attempt["outcome"] == "refused: redacted"
    assert made.version()["number"] == 0


def test_a_redaction_outlives_other_answers_though_its_rows_are_gone(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(source="small_model:thinned")
    expected = eights()
    request = made.served("label", "8", method="redact")
    digest = removal(made).guards
    monkeypatch.setattr(small_model, "REMOVED", [8])
    runs.forget_standing()
    made.served("subject", "writer 1", **ASCENT)
    made.served("subject", "writer 2", **RETRAIN)  # new weights start an epoch
    assert made.version()["number"] == 3
    served = built(made.ledger, "digits")
    assert served.removed("index") == expected
    assert removal(made).guards == digest
    figures = json.loads(made.ledger.read(made.version()["figures"]))
    told = [c for c in figures["checks"] if c["name"] == "redacted"]
    assert told == [{**told[0], "request": request, "value": 0.0, "passed": True}]


def test_a_redaction_stays_as_it_is_when_an_earlier_request_is_revoked(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(source="small_model:thinned")
    expected = eights()
    first = made.served("label", "3", **ASCENT)
    made.served("label", "8", method="redact")
    [kept] = history(made).guards()
    monkeypatch.setattr(small_model, "REMOVED", [8])  # it could not be made again
    runs.forget_standing()
    revoke(made.ledger, first, "admin", "by mistake")
    assert made.work() == ["published"]
    assert history(made).guards() == (kept,)
    assert built(made.ledger, "digits").removed("index") == expected
    assert verify(made.ledger).holds


def test_a_redaction_stays_as_it_is_when_earlier_requests_are_sealed(working: Make) -> None:
    """Some of its rows are those of a sealed request, which nothing may read any more."""
    made = working()
    made.served("subject", "writer 1", **ASCENT)
    redacted = made.served("label", "8", method="redact")
    [kept] = history(made).guards()
    before = made.row("requests", id=redacted)["updated_at"]
    assert plan(made.ledger, made.row("models", name="digits"), before).remade == ()
    seal(made.ledger, "digits", before)
    assert made.work() == ["published"]
    assert history(made).guards() == (kept,)
    assert built(made.ledger, "digits").removed("index") == eights()
    assert verify(made.ledger).holds


def test_what_is_only_redacted_is_neither_written_nor_sealed(working: Make, tmp_path: Any) -> None:
    made = working()
    made.served("label", "8", method="redact")
    with pytest.raises(ExpungeError, match="is suppressed"):
        materialise(made.ledger, "digits", tmp_path / "out")
    with pytest.raises(ExpungeError, match="suppressed"):
        seal(made.ledger, "digits")
        made.work()


def test_a_history_from_before_redactions_is_read(working: Make) -> None:
    made = working()
    made.served("label", "8", method="guardrail")
    made.served("subject", "writer 1", **ASCENT)
    now = history(made)
    old = json.loads(now.to_bytes())
    for epoch in old["epochs"]:
        for answer in epoch["answers"]:
            for change in answer["changes"]:
                del change["acts"]
    assert StoredHistory.of_bytes(json.dumps(old).encode()) == now
    assert {c.acts for a in now.answers() for c in a.changes} == {"answers", "weights"}
