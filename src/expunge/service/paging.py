"""Pages of lists: a cursor is the place where the next page begins, and no number of rows to skip,
so that a list which grows meanwhile neither repeats nor leaves out a row.
"""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from expunge.ledger import listing
from expunge.ledger.listing import LARGEST
from expunge.service.problems import Problem

Item = TypeVar("Item")
Row = TypeVar("Row")
DEEPEST = 512
"""Characters of a cursor; none that is given out is as long."""

Limit = Annotated[int, Query(ge=1, le=LARGEST, description="Rows of a page.")]
Cursor = Annotated[
    str | None,
    Query(max_length=DEEPEST, description="`next` of the page before; none for the first page."),
]


class Page(BaseModel, Generic[Item]):
    """Some rows of a list, in order."""

    items: list[Item]
    next: str | None = Field(description="Cursor of the next page; null where this is the last.")


def page_of(found: listing.Page[Row], told: Callable[[Row], Item]) -> Page[Item]:
    """A page of what the ledger listed; ``told`` makes what is sent of a row."""
    return Page(items=[told(row) for row in found.rows], next=written(found.next))


def written(key: list[str | int] | None) -> str | None:
    """A cursor for the key of the last row of a page."""
    if key is None:
        return None
    text = json.dumps(key, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def read(cursor: str | None, *kinds: type[str] | type[int]) -> list[str | int] | None:
    """The key in a cursor; None where there is no cursor.

    Args:
        cursor: as it was given out.
        kinds: of the values in the key, in order.

    Raises:
        Problem: 422, it is none that this list gives out.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = json.loads(text)
    except (binascii.Error, ValueError, RecursionError):
        key = None
    if (
        not isinstance(key, list)
        or [type(value) for value in key] != list(kinds)
        or any(isinstance(value, int) and abs(value) > 2**62 for value in key)
    ):
        raise Problem(422, "The cursor is none that this list gave out; begin without one.")
    return key
