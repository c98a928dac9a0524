"""Lineage: models and caches made from a version, which need the same change, and which lag behind.

A quantised, distilled or fine-tuned model still holds what a later version of its parent forgot;
so does a cache of embeddings. The ledger cannot change them, but knows which are out of date.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import ExpungeError
from expunge.ledger.canonical import sha256
from expunge.ledger.chain import Write, append, ledger_time
from expunge.ledger.opening import Ledger, fresh_id, model_row
from expunge.ledger.rows import one, rows
from expunge.ledger.serving import version_row

KINDS = ("quantised", "distilled", "fine-tuned", "embedding cache", "copy", "other")


@dataclass(frozen=True)
class Descendant:
    """Something that was made from a version.

    Args:
        name: what people call it.
        kind: one of :data:`KINDS`.
        version: of the parent that it was made from, or was brought up to.
        digest: SHA-256 of its file, or "" where none was given.
        behind: versions that the parent is ahead.
    """

    name: str
    kind: str
    version: int
    digest: str
    behind: int


def declare(
    ledger: Ledger,
    model: str,
    name: str,
    kind: str,
    version: int | None = None,
    file: Path | None = None,
) -> None:
    """Say that something was made from a version of a model, or was brought up to it.

    Raises:
        ExpungeError: there is no such model, version or kind, or the file cannot be read.
    """
    if kind not in KINDS:
        raise ExpungeError(f"The kind {kind!r} was given; one of {', '.join(KINDS)} is expected.")
    row, found = version_row(ledger, model, version)
    try:
        digest = "" if file is None else sha256(file.read_bytes())
    except OSError as error:
        raise ExpungeError(f"{file} cannot be read ({error.strerror}); give a file.") from None
    with ledger.database.writing() as connection:
        known = one(connection, "descendants", model=row["id"], name=name)
        at = ledger_time(connection)
        fields = {
            "model": row["id"],
            "name": name,
            "kind": kind,
            "version": found["number"],
            "digest": digest,
            "created_at": at if known is None else known["created_at"],
            "updated_at": at,
        }
        key = {"id": fresh_id("d") if known is None else known["id"]}
        append(connection, "declared", [Write("descendants", key, fields)])


def descendants(ledger: Ledger, model: str) -> Sequence[Descendant]:
    """All that is known to be made from a model, by name."""
    with ledger.database.reading() as connection:
        row = model_row(connection, model)
        found = rows(connection, "descendants", model=row["id"])
    return [
        Descendant(d["name"], d["kind"], d["version"], d["digest"], row["version"] - d["version"])
        for d in sorted(found, key=lambda d: str(d["name"]))
    ]
