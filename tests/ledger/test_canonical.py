"""Canonical JSON: the published order and escapes, and everything that it refuses."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger.canonical import canonical, parsed, sha256

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_read_back_has_the_same_bytes_and_types(value: Any) -> None:
    written = canonical(value)
    again = parsed(written)
    assert again == value
    assert canonical(again) == written


def test_names_are_in_the_order_of_rfc_8785() -> None:
    """The example of section 3.2.3: UTF-16 code units, so the emoji comes before U+FB33."""
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    order = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(names, 0)))) == order


def test_text_has_the_escapes_of_rfc_8785() -> None:
    """The example of section 3.2.2."""
    given = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"
    assert canonical(given) == b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'


def test_a_tuple_and_another_mapping_are_a_list_and_an_object() -> None:
    class Other(Mapping[str, int]):
        def __getitem__(self, name: str) -> int:
            return 1

        def __iter__(self) -> Iterator[str]:
            return iter(["b", "a"])

        def __len__(self) -> int:
            return 2

    assert canonical({"y": (1, 1.0), "x": Other()}) == b'{"x":{"a":1,"b":1},"y":[1,1.0]}'


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [0.0, math.nan]}, r"the value\.a\[1\] is nan"),
        ([-math.inf], r"the value\[0\] is -inf"),
        ({"a": {1: 2}}, r"a name in the value\.a is no text"),
        ({None: 2}, "a name in the value is no text"),
        ({"a": Path("x")}, r"cannot hold a PosixPath, and the value\.a"),
        ([b"x"], "cannot hold a bytes"),
        ({"a": "\ud800"}, r"a text in the value\.a is not valid Unicode"),
        ({"\ud800": 1}, "a text in the value is not valid Unicode"),
    ],
)
def test_what_has_no_canonical_json_is_named_by_its_place(value: object, said: str) -> None:
    with pytest.raises(ExpungeError, match=said):
        canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\xff", b'{"a":1,"a":2}', b'{"a":{"b":1,"b":1}}', b"NaN", b"[1e999]",
        b"[-Infinity]", b"[" * 100_000, b"1" * 10_000, b"{} {}",
    ],
)  # fmt: skip
def test_json_that_two_readers_could_understand_differently_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="The JSON cannot be read"):
        parsed(data)


def test_sha256_of_the_published_vector() -> None:
    """FIPS 180-4, the message abc."""
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(b"abc") == expected
