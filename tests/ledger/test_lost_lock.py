"""Facts about workers on PostgreSQL whose connection is cut: the lock is gone, and they end."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_model import ASCENT, Working
from sqlalchemy import text

from expunge.ledger import answering
from expunge.ledger.locks import LostError
from expunge.ledger.verifying import verify
from expunge.ledger.worker import Worker

Make = Callable[..., Working]
HERE = Path(__file__).parent
CUT = text(
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND ((classid::bigint << 32) | objid::bigint) = hashtext(:name)::bigint"
)


@pytest.fixture
def made(working: Make, cluster: Any) -> Iterator[Working]:
    url = cluster.new()
    found = working(url=url)
    yield found
    found.ledger.database.close()
    cluster.drop(url)


def cut(made: Working) -> None:
    """End the connection that holds the lock of the only worker."""
    [name] = [row["id"] for row in made.rows("workers")]
    with made.ledger.database.engine.connect() as connection:
        assert list(connection.execute(CUT, {"name": name}).scalars()) == [True]


def test_a_worker_that_waits_ends_when_its_connection_is_cut(made: Working) -> None:
    cutting = iter([True])

    def stop() -> bool:
        for _ in cutting:
            cut(made)
        return False

    with pytest.raises(LostError, match="has lost its lock"):
        Worker(made.ledger, poll=0.01).forever(stop)


def test_a_worker_that_lost_its_lock_publishes_nothing_and_another_finishes(
    made: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = made.ask("subject", "writer 1", **ASCENT)
    real, inside, go_on = answering.unlearn, threading.Event(), threading.Event()
    drafted: list[str] = []

    def slow(*arguments: Any) -> str:
        inside.set()
        assert go_on.wait(60)
        try:
            drafted.append(real(*arguments))
        finally:
            go_on.clear()
        return drafted[0]

    monkeypatch.setattr(answering, "unlearn", slow)

    def stop() -> bool:
        if inside.is_set() and not go_on.is_set():
            cut(made)
            inside.clear()
        return False

    events = made.rows("events")
    with pytest.raises(LostError):
        Worker(made.ledger, poll=0.01).forever(stop)
    before = len(made.rows("events"))
    assert before > len(events)
    go_on.set()  # the step ends after its worker has
    while go_on.is_set():
        time.sleep(0.01)
    assert drafted == []
    assert len(made.rows("events")) == before
    assert made.state(request)[0] == "running"

    monkeypatch.setattr(answering, "unlearn", real)
    assert list(Worker(made.ledger).until_idle().values()) == ["published"]
    assert made.state(request) == ("published", None)
    assert [v["number"] for v in made.rows("versions")] == [0, 1]
    assert verify(made.ledger).faults == ()


def test_the_command_says_it_in_a_sentence_and_by_its_exit_status(made: Working) -> None:
    url = made.ledger.database.url.render_as_string(hide_password=False)
    keys = Path(made.ledger.vault.url).parent / "keys"
    words = ["ledger", "run", "--forever", "--ledger", url, "--keys", str(keys)]
    command = [sys.executable, "-c", "from expunge.cli.entry import run; run()", *words]
    running = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while not made.rows("workers"):
            assert running.poll() is None
            time.sleep(0.02)
        cut(made)
        said = running.communicate(timeout=60)[0].decode()
    finally:
        running.kill()
    assert running.returncode == 2, said
    assert "has lost its lock" in said
    assert "Traceback" not in said
    assert json.dumps(made.rows("runs")) == "[]"
