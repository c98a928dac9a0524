"""Requests: what they name, what they refuse, and what makes two of them the same."""

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import ExpungeError
from expunge.requests import Request, Rows, resolve

TABLE = Dataset.from_dict(
    {
        "id": ["p0", "p1", "p2", "p3", "p4"],
        "concept": ["whale", "dolphin", "whale", "cake", "octopus"],
        "label": [0, 1, 0, 2, 3],
    }
)


def request(column: str, *values: str, name: str = "a request") -> Request:
    return Request(name, Rows(column, values))


def refusal(asked: Request, *earlier: Request) -> str:
    with pytest.raises(ExpungeError) as refused:
        resolve(asked, TABLE, earlier)
    return str(refused.value)


def test_the_rows_of_a_request_and_the_rest() -> None:
    found = resolve(request("concept", "whale", "cake"), TABLE)
    assert found.forget.tolist() == [0, 2, 3]
    assert found.retain.tolist() == [1, 4]


def test_numbers_in_a_column_are_named_by_their_digits() -> None:
    assert resolve(request("label", "0"), TABLE).forget.tolist() == [0, 2]


@given(st.sets(st.sampled_from(TABLE["concept"][:]), min_size=1, max_size=3))
def test_forget_and_retain_divide_the_table(values: set[str]) -> None:
    found = resolve(request("concept", *values), TABLE)
    forget, retain = set(found.forget.tolist()), set(found.retain.tolist())
    assert forget | retain == set(range(len(TABLE)))
    assert not forget & retain
    assert {TABLE["concept"][i] for i in forget} == values


def test_an_unknown_column_is_answered_with_the_columns() -> None:
    assert refusal(request("colour", "red")) == (
        "The request names the column 'colour'; the table has concept, id, label. "
        "Name one of these."
    )


def test_an_unknown_value_is_answered_with_the_nearest() -> None:
    said = refusal(request("concept", "whale", "dolfin"))
    assert "'dolfin', which the column 'concept' does not hold" in said
    assert said.endswith("Did you mean 'dolphin'?")
    far = refusal(request("concept", "zzz"))
    assert far.endswith("There are 4 values, such as 'cake'.")


def test_a_request_for_nothing_is_refused() -> None:
    assert "names no value of 'concept'" in refusal(request("concept"))


def test_a_request_for_everything_is_refused() -> None:
    said = refusal(request("concept", "whale", "dolphin", "cake", "octopus", name="all of it"))
    assert "'all of it' names all 5 rows; nothing would be left to retain" in said


def test_a_repeated_request_is_refused_under_any_name() -> None:
    first = request("concept", "whale", "cake", name="first")
    for again in (
        first,
        request("concept", "whale", "cake", name="second"),
        request("concept", "cake", "whale", "cake", name="reordered"),
    ):
        said = refusal(again, request("concept", "dolphin"), first)
        assert f"{again.name!r} was made before" in said


def test_requests_that_together_leave_nothing_are_refused() -> None:
    earlier = request("concept", "whale", "dolphin"), request("concept", "cake")
    said = refusal(request("concept", "octopus", name="the last"), *earlier)
    assert "With the 2 earlier requests, 'the last' leaves no row to retain" in said


def test_the_digest_is_of_what_is_asked_and_not_of_its_name() -> None:
    known = request("concept", "whale", "cake", name="first").digest()
    assert request("concept", "whale", "cake", name="second").digest() == known
    assert request("concept", "cake", "whale").digest() == known
    others = [
        request("concept", "whale"),
        request("subject", "whale", "cake"),
        request("concept", "whale,cake"),
        Request("first", Rows("concept", ("whale", "cake")), anchor="fish"),
    ]
    assert known not in {other.digest() for other in others}
    assert len({other.digest() for other in others}) == len(others)


STABLE = "5fb49cdf22e43fe52ca215f98562d8afa347b535f99504989f70deaad47dc063"


def test_the_digest_is_stable_over_versions() -> None:
    """The ledger finds a request by it: this value must never change."""
    asked = request("subject", "anna")
    assert asked.digest() == STABLE


@pytest.mark.parametrize(
    ("column", "kind"),
    [("id", "samples"), ("label", "class"), ("subject", "subject"), ("concept", "concept")],
)
def test_a_column_has_the_field_s_word_for_its_requests(column: str, kind: str) -> None:
    assert Rows(column, ("x",)).kind == kind
