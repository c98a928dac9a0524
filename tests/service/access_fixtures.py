"""Fixtures of the tests of who may do what, which name this module as a plugin."""

from datetime import timedelta
from pathlib import Path

import pytest
from access_probe import Later, Probe, untrained_ledger

from expunge.ledger import accounts


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    """A ledger with an operator, a requester and an admin."""
    return Probe.make(untrained_ledger(tmp_path)).people("operator", "requester", "admin")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Stops the clock that sessions and waits are reckoned by, and moves it."""
    begun, passed = accounts.now(), [timedelta()]
    monkeypatch.setattr(accounts, "now", lambda: begun + passed[0])

    def move(by: timedelta) -> None:
        passed[0] += by

    return move
