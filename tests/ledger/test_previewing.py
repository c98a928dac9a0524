"""Facts about previews: they count what an answer will find, and write nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from datasets import concatenate_datasets
from small_model import ASCENT, OPEN, WRITERS, Working, material, tables

from expunge.data import digits, own
from expunge.errors import ExpungeError
from expunge.ledger.asking import revoke, seal
from expunge.ledger.material import Material
from expunge.ledger.opening import model_row
from expunge.ledger.previewing import Preview, preview
from expunge.ledger.scope import Scope
from expunge.ledger.standing import Standing

Make = Callable[..., Working]
FEW, COPIED = 80, (5, 45)
"""Rows of a table, and those of which another person has a copy."""
REPORTING = OPEN.model_copy(update={"duplicates": "report"})
INCLUDING = OPEN.model_copy(update={"duplicates": "include"})


def copied() -> Material:
    """A few rows, of which writer 5's are in the table twice: under the name of somebody else."""
    few, held_out = tables()[0].select(range(FEW)), tables()[1]
    again = few.select(list(COPIED)).remove_columns(["id", "subject"])
    again = again.add_column("id", ["copy 1", "copy 2"]).add_column("subject", ["a thief"] * 2)
    table = concatenate_datasets([few, again.cast(few.features)])
    whole = material()
    return replace(
        whole,
        train=own.samples(table, digits.tensors(table)),
        train_table=table,
        held_out_table=held_out,
        classes=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    )


def looked(made: Working, column: str, *values: str) -> Preview:
    with made.ledger.database.reading() as connection:
        row = model_row(connection, made.model)
    return preview(made.ledger, Standing.of(made.ledger, row), Scope("x", column, values))


def account(made: Working, request: str) -> Any:
    return json.loads(made.ledger.read(made.row("requests", id=request)["account"]))


def test_a_preview_counts_the_rows_of_a_person_and_writes_nothing(working: Make) -> None:
    made = working()
    before = made.counts(), len(made.rows("events"))
    found = looked(made, "subject", "writer 3")
    assert (made.counts(), len(made.rows("events"))) == before

    train, held_out = tables()
    own_rows = [i for i in range(len(train)) if i % WRITERS == 3]
    assert found.rows == found.removed == len(own_rows) == 27
    assert found.of == len(train)
    assert found.held_out == len([i for i in range(len(held_out)) if i % WRITERS == 3])
    assert (found.forgotten, found.copies, found.reason, found.unknown) == (0, None, None, ())
    assert found.sentence == "27 records of this subject, none already forgotten"
    assert found.notes == ("The policy does not look for near-duplicates.",)
    labels = train["label"][:]
    for touched in found.labels:
        whole = [label for label in labels if str(label) == touched.label]
        mine = [i for i in own_rows if str(labels[i]) == touched.label]
        assert (touched.rows, touched.named) == (len(whole), len(mine))
        assert touched.left == len(whole) - len(mine)
    assert sum(touched.named for touched in found.labels) == 27


def test_rows_that_are_forgotten_already_are_told_apart(working: Make) -> None:
    made = working()
    three = [tables()[0]["id"][i] for i in (1, 41, 81)]
    earlier = made.served("id", *three, **ASCENT)
    found = looked(made, "subject", "writer 1")
    assert (found.rows, found.forgotten, found.removed) == (27, 3, 24)
    assert found.sentence == "27 records of this subject, 3 already forgotten"

    request = made.served("subject", "writer 1", **ASCENT)
    told = account(made, request)
    assert (told["named"], sorted(told["already forgotten"])) == (27, sorted(three))
    again = looked(made, "subject", "writer 1")
    assert (again.reason, again.removed) == ("already forgotten", 0)
    assert "answered at once" in again.notes[0]

    revoke(made.ledger, request, "admin", "by mistake")
    revoke(made.ledger, earlier, "admin", "by mistake")
    made.work()
    assert looked(made, "subject", "writer 1").removed == 27


@pytest.mark.parametrize(("policy", "removed"), [(REPORTING, 2), (INCLUDING, 4)])
def test_a_preview_finds_the_copies_that_the_answer_finds(
    working: Make, policy: Any, removed: int
) -> None:
    made = working(policy=policy, source=f"{__name__}:copied", given=copied())
    found = looked(made, "subject", "writer 5")
    assert (found.rows, found.copies, found.exact, found.removed) == (2, 2, 2, removed)
    assert found.sentence == (
        "2 records of this subject, 2 near-duplicates, none already forgotten"
    )
    assert ("leaves them in" in found.notes[0]) == (policy is REPORTING)
    assert sum(touched.named for touched in found.labels) == removed

    request = made.served("subject", "writer 5", **ASCENT)
    assert made.row("requests", id=request)["row_count"] == removed
    assert sorted(account(made, request)["copies"]["ids"]) == ["copy 1", "copy 2"]
    left = looked(made, "subject", "a thief")
    assert left.forgotten == removed - 2


def test_classes_are_named_by_their_texts_and_strangers_are_named(working: Make) -> None:
    made = working(policy=REPORTING, source=f"{__name__}:copied", given=copied())
    found = looked(made, "label", "eight", "eleven")
    of_eight = [label for label in copied().train_table["label"] if label == 8]
    assert found.rows == len(of_eight)
    assert [(t.label, t.text, t.left) for t in found.labels] == [("8", "eight", 0)]
    assert found.sentence.startswith(f"{len(of_eight)} records of these 2 classes, ")
    assert found.unknown == ("eleven",)
    assert "1 value that no training row has: 'eleven'." in found.notes

    nobody = looked(made, "subject", "no such person")
    assert (nobody.reason, nobody.sentence) == (
        "not in the training data",
        "0 records of this subject",
    )
    everything = looked(made, "label", *map(str, range(10)))
    assert (everything.reason, everything.removed) == ("names every row", 0)
    with pytest.raises(ExpungeError, match="names the column 'name'"):
        looked(made, "name", "x")
    with pytest.raises(ExpungeError, match="names no value"):
        looked(made, "subject")


def test_what_was_sealed_is_said_to_be(working: Make) -> None:
    made = working()
    made.served("subject", "writer 1", **ASCENT)
    seal(made.ledger, made.model)
    made.work()
    found = looked(made, "subject", "writer 1")
    assert (found.rows, found.sealed, found.reason) == (0, True, "already forgotten")
    assert found.sentence == "0 records of this subject, forgotten and sealed earlier"
    of_nobody = looked(made, "subject", "writer 2")
    assert (of_nobody.sealed, of_nobody.of) == (False, len(tables()[0]) - 27)
