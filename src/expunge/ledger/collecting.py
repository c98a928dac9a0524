"""Garbage: objects that nothing uses any more, and files of the vault that no row names."""

import time
from dataclasses import dataclass

from expunge.ledger.chain import Write, append
from expunge.ledger.opening import Ledger, sweep_scratch
from expunge.ledger.rows import rows

STAGED = 3600.0
"""Seconds after which a half-written file is no process's any more."""


PATIENCE = 90.0
"""Seconds between two looks: longer than a writer waits for the database before it gives up."""


@dataclass(frozen=True)
class Collected:
    """How many objects were destroyed that nothing used, how many files no row named, and how many
    were half written."""

    unused: int
    unnamed: int
    staged: int


def collect(ledger: Ledger, patience: float = PATIENCE, staged: float = STAGED) -> Collected:
    """Remove what is of no use; what is being written is left alone.

    Args:
        ledger: where.
        patience: seconds that a file may lie in the vault before its row is there: files that no
            row names are looked at twice.
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
    unnamed = _unnamed(ledger)
    if unnamed:
        time.sleep(patience)
        unnamed &= _unnamed(ledger)
    for address in unnamed:
        ledger.vault.destroy(address)
    return Collected(len(unused), len(unnamed), ledger.vault.sweep(staged))


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
