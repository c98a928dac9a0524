"""The benchmark of reliability on PostgreSQL: workers are killed, take over, lose the server."""

from pathlib import Path
from typing import Any

import pytest

from expunge.benchmarks.reliability.protocol import Protocol

KILLS = 50


@pytest.mark.slow
def test_workers_that_are_killed_on_postgresql_lose_nothing(cluster: Any, tmp_path: Path) -> None:
    url = cluster.new()
    try:
        found = Protocol(KILLS, 100, 0, url, tmp_path / "out", cluster).conduct(print)
    finally:
        cluster.drop(url)
    killed = found["killed"]
    assert {name: wrong for name, wrong in killed["checks"].items() if wrong} == {}
    assert killed["kills"] >= KILLS
    assert [outcome for outcome in found["faults"] if not outcome["holds"]] == []
    assert "the database stops" in [outcome["fault"] for outcome in found["faults"]]
