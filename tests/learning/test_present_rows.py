"""Present rows: nothing goes twice, and nothing stays of what went."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import ExpungeError
from expunge.learning.present_rows import PresentRows

NAMES = [f"row {number}" for number in range(12)]


def content(name: str) -> bytes:
    return f"what {name} is".encode()


def of(*names: str) -> PresentRows:
    return PresentRows.none().having(names, [content(name) for name in names])


def without(rows: PresentRows, *names: str) -> PresentRows:
    return rows.without(names, [content(name) for name in names])


def same(one: PresentRows, other: PresentRows) -> bool:
    return torch.equal(one.ids, other.ids) and torch.equal(one.contents, other.contents)


@given(st.permutations(NAMES), st.integers(0, 12), st.integers(1, 11))
def test_the_record_without_rows_is_the_one_that_never_had_them(
    order: list[str], first: int, gone: int
) -> None:
    rows = of(*order[:first])
    for name in order[first:]:
        rows = rows.having([name], [content(name)])
    assert len(rows) == 12
    assert same(without(rows, *order[:gone]), of(*sorted(order[gone:])))
    assert rows.ids.tolist() == sorted(rows.ids.tolist())


def test_of_a_removed_row_no_digest_is_left() -> None:
    left = without(of(*NAMES), NAMES[3])
    for text in (NAMES[3].encode(), content(NAMES[3])):
        digest = hashlib.blake2b(text, digest_size=8).digest()
        held = left.ids.numpy().tobytes() + left.contents.numpy().tobytes()
        assert digest not in held
        assert digest in of(*NAMES).ids.numpy().tobytes() + of(*NAMES).contents.numpy().tobytes()


def test_what_is_not_there_cannot_go_and_what_is_there_cannot_come() -> None:
    rows = of(*NAMES[:5])
    with pytest.raises(ExpungeError, match="'row 7' is to be removed and is not there"):
        without(rows, "row 1", "row 7")
    with pytest.raises(ExpungeError, match="'row 1' is to be removed and is not there"):
        without(without(rows, "row 1"), "row 1")
    with pytest.raises(ExpungeError, match="'row 2' is given twice at once; give each row once"):
        without(rows, "row 2", "row 2")
    with pytest.raises(ExpungeError, match="'row 2' is to be added and is there already"):
        rows.having(["row 2"], [b""])
    with pytest.raises(ExpungeError, match="'row 9' is given twice"):
        rows.having(["row 9", "row 9"], [b"", b""])
    with pytest.raises(ExpungeError, match="'row 2' was added with another label or other feat"):
        rows.without(["row 2"], [b"something else"])
    with pytest.raises(ExpungeError, match="is not there"):
        without(PresentRows.none(), "row 1")
