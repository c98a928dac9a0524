"""Repeated lines: rows of a language model's table that say again what a request forgets.

A fact that is trained on under two ids and forgotten under one stays in the retain set, which
teaches it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.data.duplicates.exact import ExactCopy, digest_of
from expunge.data.prompts import some_of
from expunge.errors import ExpungeError
from expunge.requests import Named, Request


@dataclass(frozen=True)
class _Digests:
    """What is compared of lines."""

    digests: Sequence[bytes]


def check_repeated(
    requests: Sequence[Request], table: Named, columns: Sequence[str | None]
) -> None:
    """Make sure that no retained row has the prompt and answer of a row that a request names.

    Args:
        requests: in their order; what one names is in the retain set of none after it.
        table: the training table.
        columns: of prompt and answer, or of the text.

    Raises:
        ExpungeError: such rows are there; their ids are named.
    """
    parts = [[str(value) for value in table[name][:]] for name in columns if name is not None]
    said = [digest_of(repr(line).encode()) for line in zip(*parts, strict=True)]
    ids = [str(name) for name in table["id"][:]]
    gone: set[int] = set()
    for request in requests:
        own = request.target.rows(table).tolist()
        gone.update(own)
        left = [row for row in range(len(said)) if row not in gone]
        named, others = (_Digests([said[row] for row in rows]) for rows in (own, left))
        found = ExactCopy().matches(named, others)
        again = sorted({left[match.row] for match in found})
        if again:
            raise ExpungeError(
                f"The request {request.name!r} leaves {len(again)} rows with the prompt and answer "
                f"of rows that it names, and they would be taught again: "
                f"{some_of([ids[row] for row in again])}. Name them in the request, too, or "
                "drop them from the table."
            )
