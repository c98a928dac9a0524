"""Facts about garbage: what is being stored is never it, however long that takes."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_model import OPEN, SOURCE, Working, material
from sqlalchemy import text

from expunge.errors import ExpungeError
from expunge.ledger import certificate, registering, vault
from expunge.ledger.collecting import Collected, collect
from expunge.ledger.locks import collecting, storing
from expunge.ledger.material import Source
from expunge.ledger.registering import register
from expunge.ledger.verifying import verify

Make = Callable[..., Working]


def test_what_a_registration_stores_is_not_collected_before_its_rows_are_there(
    working: Make, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(url=empty_url)
    found: list[Collected] = []

    def slow(*arguments: Any) -> Any:
        found.append(collect(made.ledger, patience=0.0, staged=0.0))  # the base has no row yet
        return certificate.statement(*arguments)

    monkeypatch.setattr(registering, "statement", slow)
    given = replace(material(), model=material().model)
    register(made.ledger, "other", Source.of_function(SOURCE), OPEN, given)
    assert [(c.unnamed, c.left) for c in found] == [(0, 1)]
    assert verify(made.ledger).faults == ()
    assert collect(made.ledger, patience=0.0).unnamed == 0
    made.ledger.database.close()


def test_what_was_stored_by_somebody_who_is_gone_is_collected_at_once(working: Make) -> None:
    made = working()
    made.ledger.vault.put(b"never named", "scope")
    start = time.monotonic()
    assert collect(made.ledger).unnamed == 1
    assert time.monotonic() - start < 60  # nobody is waited for


def test_nothing_is_stored_while_files_without_a_row_are_removed(
    working: Make, empty_url: str
) -> None:
    made = working(url=empty_url)
    made.ledger.database.patience = 0.05
    with (
        collecting(made.ledger.database.another(), 1.0) as alone,
        pytest.raises(ExpungeError, match=r"garbage|locked"),
    ):
        assert alone
        made.ask("label", "8")
    assert made.ask("label", "8")
    made.ledger.database.close()


def test_a_lease_that_was_cut_lets_nothing_be_written(working: Make, cluster: Any) -> None:
    url = cluster.new()
    made = working(url=url)
    database = made.ledger.database
    with pytest.raises(ExpungeError, match="run the same again"), storing(database):
        with database.another().engine.connect() as connection:
            # waits until the other session is gone; without a time it only asks
            cut = "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE mode = 'ShareLock'"
            assert list(connection.execute(text(cut)).scalars()) == [True]
        with database.writing():
            pass
    database.close()
    cluster.drop(url)


def test_a_file_that_is_still_being_written_is_not_swept_however_old_it_is(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    swept: list[int] = []
    real = vault.Folder.keep

    def keep(self: Any, staged: Path, path: str) -> None:
        os.utime(staged, (0, 0))
        swept.append(made.ledger.vault.sweep(0.0))
        real(self, staged, path)

    monkeypatch.setattr(vault.Folder, "keep", keep)
    made.ask("label", "8")
    assert swept == [0]
