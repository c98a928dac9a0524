"""Garbage: objects that nothing uses any more, and files of the vault that no row names."""

from dataclasses import dataclass

from expunge.ledger.chain import Write, append
from expunge.ledger.locks import collecting
from expunge.ledger.opening import Ledger, sweep_scratch
from expunge.ledger.rows import rows

STAGED = 3600.0
"""Seconds after which a half-written file is no process's any more."""


PATIENCE = 90.0
"""Seconds that those are waited for who are storing objects whose rows are not there yet."""


@dataclass(frozen=True)
class Collected:
    """How many objects were destroyed that nothing used, how many files no row named, and how many
    were half written; and how many without a row were left, since somebody was storing objects."""

    unused: int
    unnamed: int
    staged: int
    left: int = 0


def collect(ledger: Ledger, patience: float = PATIENCE, staged: float = STAGED) -> Collected:
    """Remove what is of no use; what is being written is left alone.

    A file that no row names may be one whose row is about to be written, by a registration for
    example, however long that takes. So these are removed only while nobody stores anything.

    Args:
        ledger: where.
        patience: seconds that those are waited for who store objects.
        staged: seconds after which a half-written file is removed.
    """
    ledger.claim()
    with ledger.database.writing() as connection:
        used = {use["address"] for use in rows(connection, "uses")}
        unused = [
            row["address"]
            for row in rows(connection, "objects", destroyed=False)
            if row["address"] not in used
        ]
        if unused:
            writes = [Write("objects", {"address": a}, {"destroyed": True}) for a in unused]
            append(connection, "collected", writes)
    remove_destroyed(ledger)
    sweep_scratch()
    removed = left = 0
    if _unnamed(ledger):
        with collecting(ledger.database, patience) as alone:
            unnamed = _unnamed(ledger)  # with the rows that came since
            for address in unnamed if alone else ():
                ledger.vault.destroy(address)
            removed, left = (len(unnamed), 0) if alone else (0, len(unnamed))
    return Collected(len(unused), removed, ledger.vault.sweep(staged), left)


def remove_destroyed(ledger: Ledger) -> None:
    """Delete the bytes of objects whose keys are gone; a crash may have left some."""
    ledger.claim()
    there = set(ledger.vault.addresses())
    with ledger.database.reading() as connection:
        gone = {row["address"] for row in rows(connection, "objects", destroyed=True)}
    for address in sorted(there & gone):
        ledger.vault.destroy(address)


def _unnamed(ledger: Ledger) -> set[str]:
    """Files of the vault that no row names."""
    there = set(ledger.vault.addresses())
    with ledger.database.reading() as connection:
        named = {row["address"] for row in rows(connection, "objects")}
    return there - named
