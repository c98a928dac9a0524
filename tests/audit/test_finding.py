"""Finding: which rows count as copies, who names them already, and what the evidence is of."""

import datasets
import pytest

from expunge.audit.finding import REFERENCE, Finding, Search, Sought
from expunge.data.duplicates.content import Searched
from expunge.errors import ExpungeError

ENGINE = "the engine weaves algebraical patterns just as the loom weaves flowers and leaves of silk"
TEA = "a recipe for tea with milk and two lumps of sugar in a cup of thin white china"


def notes(name: str, ids: list[str], texts: list[str]) -> Searched:
    return Searched(name, datasets.Dataset.from_dict({"id": ids, "note": texts}))


def looked(table: Searched, *rows: tuple[int, ...]) -> list[Finding]:
    sought = [Sought(f"request {i}", table, named) for i, named in enumerate(rows)]
    return Search([table]).look(sought)


def test_a_copy_that_another_request_names_is_said_to_be_named() -> None:
    table = notes("train", ["a", "b", "c", "d"], [ENGINE, ENGINE.upper(), TEA, ENGINE])
    first, second = looked(table, (0,), (1,))
    assert {c.id: c.named_by for c in first.copies} == {"b": "request 1", "d": None}
    assert {c.id: c.named_by for c in second.copies} == {"a": "request 0", "d": None}
    assert all(c.exact for c in (*first.copies, *second.copies))
    assert not first.nowhere


def test_rows_are_counted_and_not_their_ids() -> None:
    table = notes("train", ["a", "same", "same"], [ENGINE, ENGINE, ENGINE])
    (found,) = looked(table, (0,))
    assert [c.id for c in found.copies] == ["same", "same"]


def test_the_evidence_names_the_nearest_of_so_many_rows() -> None:
    texts = [f"note {i} on subject {7 * i} of the day" for i in range(REFERENCE + 20)]
    table = notes("train", [str(i) for i in range(len(texts))], texts)
    (one,) = looked(table, (0,))[0].evidence
    assert (one.asked, one.rows) == (1, len(texts) - 1)
    many = looked(table, tuple(range(REFERENCE + 10)))[0].evidence[0]
    assert (many.asked, many.unrelated) == (REFERENCE, 10)


def test_without_a_row_to_search_nothing_is_said_to_be_near() -> None:
    (found,) = looked(notes("train", ["a"], [ENGINE]), (0,))
    (evidence,) = found.evidence
    assert found.nowhere
    assert (evidence.nearest, evidence.of, evidence.rank) == (None, None, None)


def test_tables_with_nothing_in_common_are_refused() -> None:
    one = notes("train", ["a"], [ENGINE])
    other = Searched("other", datasets.Dataset.from_dict({"id": ["b"], "letter": [ENGINE]}))
    with pytest.raises(ExpungeError, match="no column to compare in common"):
        Search([other]).look([Sought("request", one, (0,))])
