"""Facts about workers: runs survive a killed process, a full disk, a second worker, a clock set
back; and what is kept of their steps names nobody."""

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from small_model import ASCENT, OPEN, SOURCE, Working, material
from sqlalchemy import text

from expunge.errors import ExpungeError
from expunge.ledger import chain, looking, queueing, steps, vault, worker
from expunge.ledger.asking import retry, seal
from expunge.ledger.locks import LostError
from expunge.ledger.material import Source
from expunge.ledger.opening import Ledger, scratch, sweep_scratch
from expunge.ledger.registering import register
from expunge.ledger.rows import note
from expunge.ledger.verifying import verify
from expunge.ledger.worker import STEPS, Worker

Make = Callable[..., Working]
HERE = Path(__file__).parent
WORK = """
import sys
from pathlib import Path
from expunge.ledger.opening import Ledger
from expunge.ledger.worker import Worker
ledger = Ledger.open(sys.argv[1], Path(sys.argv[2]))
Worker(ledger).until_idle()
"""


def process(made: Working, url: str, keys: Path) -> subprocess.Popen[bytes]:
    """A worker in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORK, url, str(keys)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def kept_of_steps(made: Working) -> str:
    """All that DBOS keeps, as text."""
    database = made.ledger.database
    if database.path is not None:
        names = (STEPS, f"{STEPS}-wal")
        files = [database.path.with_name(name) for name in names]
        return "".join(f.read_bytes().decode("latin-1") for f in files if f.exists())
    with database.engine.connect() as connection:
        tables = connection.execute(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'dbos'")
        ).scalars()
        return "".join(
            str(connection.execute(text(f'SELECT * FROM dbos."{table}"')).all())
            for table in list(tables)
        )


def workflows(made: Working) -> list[str]:
    """The ids of all workflows."""
    database = made.ledger.database
    if database.path is None:
        with database.engine.connect() as connection:
            asked = text("SELECT workflow_uuid FROM dbos.workflow_status")
            return list(connection.execute(asked).scalars())
    with sqlite3.connect(database.path.with_name(STEPS)) as lite:
        return [row[0] for row in lite.execute("SELECT workflow_uuid FROM workflow_status")]


def test_a_worker_takes_requests_to_the_end_on_both_databases(
    working: Make, empty_url: str
) -> None:
    made = working(url=empty_url)
    named = made.ask("subject", "writer 17", metadata={"ticket": "confidential"}, **ASCENT)
    failing = made.ask("label", "2", method="negation")
    nobody = made.ask("subject", "no such person")
    told: list[str] = []

    ended = Worker(made.ledger, told=lambda _, state: told.append(state)).until_idle()

    assert told == ["published", "failed", "answered"] == list(ended.values())
    assert [made.state(r)[0] for r in (named, failing, nobody)] == told
    kept = kept_of_steps(made)
    assert next(iter(ended)) in kept
    assert len(workflows(made)) == 3
    for secret in ("writer 17", "confidential", "no such person", "Take another", "digits:"):
        assert secret not in kept, secret
    assert verify(made.ledger).faults == ()

    seal(made.ledger, "digits")
    [sealing] = Worker(made.ledger).until_idle().values()
    assert sealing == "published"
    for run in made.rows("runs"):
        assert f"{run['id']}.0" not in workflows(made)
    with made.ledger.database.reading() as connection:
        bodies = "".join(connection.execute(text("SELECT body FROM events")).scalars())
    for secret in ("writer 17", "confidential", "no such person", "digits:"):
        assert secret not in bodies
    assert verify(made.ledger).faults == ()
    assert Worker(made.ledger).until_idle() == {}


def test_a_killed_worker_is_followed_by_another(working: Make) -> None:
    plain, made = working(), working()
    request = made.ask("label", "8")
    plain.served("label", "8")
    folder = made.ledger.folder
    assert folder is not None
    running = process(made, f"sqlite:///{made.ledger.database.path}", folder / "keys")
    try:
        while not any(row["step"] == "unlearn" for row in made.rows("progress")):
            assert running.poll() is None, running.stderr and running.stderr.read()
            time.sleep(0.01)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert made.state(request)[0] == "running"

    assert list(Worker(made.ledger).until_idle().values()) == ["published"]

    assert made.state(request) == ("published", None)
    assert [v["number"] for v in made.rows("versions")] == [0, 1]
    assert made.version()["weights_digest"] == plain.version()["weights_digest"]
    assert verify(made.ledger).faults == ()


@pytest.mark.slow
def test_two_workers_on_one_postgresql_publish_each_request_once(
    working: Make, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("cluster")
    url = server.new()
    made = working(url=url)
    ids = [made.ask("subject", f"writer {i}", **ASCENT) for i in range(4)]
    keys = Path(made.ledger.vault.url).parent / "keys"
    other = process(made, url, keys)
    try:
        while not made.rows("workers"):
            assert other.poll() is None, other.stderr and other.stderr.read()
            time.sleep(0.01)
        Worker(made.ledger).until_idle()
        said = other.communicate()[1]
        assert other.returncode == 0, said
        assert {made.state(r) for r in ids} == {("published", None)}
        runs = sorted(made.rows("runs"), key=lambda run: run["created_at"])
        assert [json.loads(run["requests"]) for run in runs] == [[r] for r in ids]
        assert sorted(v["number"] for v in made.rows("versions")) == [0, 1, 2, 3, 4]
        assert verify(made.ledger).faults == ()
    finally:
        other.kill()
        made.ledger.database.close()
        server.drop(url)


def test_a_second_worker_on_sqlite_is_refused(working: Make) -> None:
    made = working()
    with Worker(made.ledger)._alone(), pytest.raises(ExpungeError, match="one at a time"):
        Worker(made.ledger).until_idle()


def full(fails: Callable[[], bool]) -> Callable[..., None]:
    real = vault.Folder.keep

    def keep(self: Any, staged: Path, path: str) -> None:
        if fails():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, staged, path)

    return keep


def test_a_full_disk_interrupts_a_run_and_the_next_worker_finishes_it(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    request = made.ask("label", "8")
    calls = iter(range(10**6))
    with monkeypatch.context() as patched:
        patched.setattr(vault.Folder, "keep", full(lambda: next(calls) > 4))
        assert list(Worker(made.ledger, poll=0.01).until_idle().values()) == ["interrupted"]
    assert made.state(request)[0] == "running"
    [run] = looking.status(made.ledger)["runs"]
    assert run["state"] == "interrupted"
    assert verify(made.ledger).faults == ()

    assert list(Worker(made.ledger).until_idle().values()) == ["published"]
    assert made.state(request) == ("published", None)
    assert verify(made.ledger).faults == ()


def test_a_disk_that_is_full_for_a_moment_is_only_a_delay(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    made.ask("label", "8")
    calls = iter(range(10**6))
    monkeypatch.setattr(vault.Folder, "keep", full(lambda: next(calls) == 6))
    assert list(Worker(made.ledger, poll=0.01).until_idle().values()) == ["published"]


def test_a_damaged_base_interrupts_and_says_why_until_it_is_restored(working: Make) -> None:
    made = working()
    address = made.row("models", name="digits")["base"]
    path = Path(made.ledger.vault.url) / address[:2] / address[2:4] / address
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    ids = [made.ask("subject", f"writer {i}", **ASCENT) for i in range(2)]

    assert list(Worker(made.ledger, poll=0.01).until_idle().values()) == ["interrupted"]
    [run] = looking.status(made.ledger)["runs"]
    assert address in run["why"]["error"]
    assert [made.state(r)[0] for r in ids] == ["received", "received"]

    path.write_bytes(content)
    assert list(Worker(made.ledger).until_idle().values()) == ["published", "published"]
    assert verify(made.ledger).faults == ()


@pytest.mark.parametrize("damaged", ["base", "policy"])
def test_what_is_damaged_of_one_model_does_not_keep_others_from_theirs(
    working: Make, damaged: str
) -> None:
    made = working()
    given = replace(material(), model=material().model)
    source = Source.of_function(SOURCE)
    register(made.ledger, "other", source, OPEN, given)
    stuck = made.ask("subject", "writer 1", **ASCENT)
    free = [Working(made.ledger, "other").ask("subject", f"writer {i}", **ASCENT) for i in (1, 2)]
    with flipped(made, made.row("models", name="digits")[damaged]) as address:
        reader = Ledger.open(f"sqlite:///{made.ledger.database.path}")
        states = list(Worker(reader, poll=0.01).until_idle().values())
        assert sorted(states) == ["interrupted", "published", "published"]
        assert made.state(stuck)[0] == "received"
        assert [made.state(r)[0] for r in free] == ["published", "published"]
        [run] = looking.status(made.ledger)["runs"]
        assert (run["model"], run["state"]) == ("digits", "interrupted")
        assert address in run["why"]["error"]
    assert list(Worker(made.ledger).until_idle().values()) == ["published"]
    assert verify(made.ledger).faults == ()


def test_what_is_damaged_of_one_request_fails_it_alone_until_it_is_tried_again(
    working: Make,
) -> None:
    made = working()
    first, second = (made.ask("subject", f"writer {i}", **ASCENT) for i in (1, 2))
    with flipped(made, made.row("requests", id=first)["scope"]) as address:
        assert list(Worker(made.ledger).until_idle().values()) == ["failed", "published"]
        assert made.state(first) == ("failed", "error")
        told = json.loads(made.ledger.read(made.row("requests", id=first)["account"]))
        assert address in told["error"]
        assert f"retry {first}" in told["error"]
    retry(made.ledger, first)
    assert list(Worker(made.ledger).until_idle().values()) == ["published"]
    assert [made.state(r)[0] for r in (first, second)] == ["published", "published"]
    assert verify(made.ledger).faults == ()


@contextmanager
def flipped(made: Working, address: str) -> Iterator[str]:
    """Inside, an object is damaged."""
    path = Path(made.ledger.vault.url) / address[:2] / address[2:4] / address
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        yield address
    finally:
        path.write_bytes(content)


def test_a_clock_that_is_set_back_sets_no_event_back(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime(2001, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(chain, "datetime", Earlier)
    request = made.served("subject", "writer 1", **ASCENT)
    assert made.state(request) == ("published", None)
    with made.ledger.database.reading() as connection:
        times = list(connection.execute(text("SELECT at FROM events ORDER BY seq")).scalars())
    assert times == sorted(times)
    assert verify(made.ledger).faults == ()


def test_a_worker_without_the_signing_key_fails_no_request(working: Make) -> None:
    made = working()
    request = made.ask("subject", "writer 1", **ASCENT)
    folder = made.ledger.folder
    assert folder is not None
    (folder / "keys" / "signing.pem").unlink()
    reader = Ledger.open(f"sqlite:///{made.ledger.database.path}")
    with pytest.raises(ExpungeError, match="signing"):
        Worker(reader).until_idle()
    assert made.state(request) == ("received", None)


def test_a_read_only_vault_is_said_and_nothing_is_lost(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(policy=OPEN)

    def keep(self: Any, staged: Path, path: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(vault.Folder, "keep", keep)
        before = made.counts()
        with pytest.raises(ExpungeError, match="Read-only file system"):
            made.ask("subject", "writer 1", **ASCENT)
        assert made.counts() == before
    assert made.state(made.served("subject", "writer 1", **ASCENT)) == ("published", None)


def test_what_cannot_be_read_does_not_keep_status_from_the_rest(working: Make) -> None:
    made = working()
    asked = made.ask("label", "8")
    store = Path(made.ledger.vault.url)
    base = made.row("models", name="digits")["base"]
    (store / base[:2] / base[2:4] / base).write_bytes(b"x")
    assert list(Worker(made.ledger, poll=0.01).until_idle().values()) == ["interrupted"]

    store.rename(store.with_name("elsewhere"))
    found = looking.status(Ledger.open(f"sqlite:///{made.ledger.database.path}"))
    own = found["models"]["digits"]
    assert own["policy"].startswith("unreadable: ")
    assert (own["requests"], own["due soon"]) == ({"received": 1}, None)
    assert found["runs"][0]["requests"] == [asked]
    assert found["runs"][0]["why"]["error"].startswith("unreadable: ")
    shown = looking.show(Ledger.open(f"sqlite:///{made.ledger.database.path}"), asked)
    for part in ("scope", "figures"):
        assert shown[part].startswith("unreadable: ")
        assert "cannot be read" in shown[part]
    assert (shown["state"], shown["kind"], shown["number"]) == ("received", "class", 1)


def test_only_the_owner_can_read_what_a_worker_writes_beside_the_ledger(working: Make) -> None:
    made = working()
    path = made.ledger.database.path
    assert path is not None
    path.with_name(STEPS).touch(mode=0o644)  # as an earlier version made it
    seen = []
    with Worker(made.ledger)._alone() as own, worker._launched(made.ledger, own.name):
        seen += [(f.name, f.stat().st_mode & 0o777) for f in path.parent.iterdir() if f.is_file()]
    assert {STEPS, f"{path.name}.worker"} <= {name for name, _ in seen}
    assert {mode for _, mode in seen} == {0o600}


def test_steps_that_a_killed_worker_left_after_a_seal_are_deleted_by_the_next(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(policy=OPEN)
    made.served("subject", "writer 1", **ASCENT)
    seal(made.ledger, "digits")
    with monkeypatch.context() as patched:
        patched.setattr(worker, "_delete_sealed", lambda _: None)
        Worker(made.ledger).until_idle()
    sealed = {f"{run['id']}.0" for run in made.rows("runs")}
    assert sealed & set(workflows(made))
    made.ask("subject", "writer 2", **ASCENT)
    [later] = Worker(made.ledger).until_idle()
    assert workflows(made) == [f"{later}.0"]


HOLDING = """
import sys, tempfile, time
from expunge.ledger import opening
tempfile.tempdir = sys.argv[1]
with opening.scratch() as folder:
    (folder / "content.safetensors").write_bytes(b"weights")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_unencrypted_is_swept_and_what_a_living_one_holds_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    other = subprocess.Popen([sys.executable, "-c", HOLDING, tmp_path], stdout=subprocess.PIPE)
    assert other.stdout is not None
    try:
        left = Path(other.stdout.readline().decode().strip())
        assert left.stat().st_mode & 0o777 == 0o700
        with scratch() as own:
            sweep_scratch()
            assert (left / "content.safetensors").exists()
            assert own.exists()
        assert not own.exists()
    finally:
        other.kill()
        other.wait()
    older = tmp_path / f"expunge-ledger-{os.getpid()}-x"  # a number that lives again says nothing
    older.mkdir()
    sweep_scratch()
    assert not left.exists()
    assert not older.exists()


def test_the_share_of_a_step_is_seen_from_another_process(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    request = made.ask("label", "8")
    seen: list[tuple[str, float | None]] = []
    monkeypatch.setattr(steps, "EVERY", 0.0)
    real = note
    reader = Ledger.open(f"sqlite:///{made.ledger.database.path}")

    def noted(connection: Any, table: str, record: dict[str, Any]) -> None:
        real(connection, table, record)
        connection.commit()
        [own] = looking.status(reader, "digits")["runs"]
        [same] = looking.show(reader, request)["runs"]
        assert (own["step"], own["share"]) == (same["step"], same["share"])
        seen.append((own["step"], own["share"]))

    monkeypatch.setattr(steps, "note", noted)
    made.work()
    shares = [share for step, share in seen if step == "unlearn" and share is not None]
    assert len(shares) > 4
    assert shares == [k / len(shares) for k in range(1, len(shares) + 1)]
    assert seen[0] == ("resolve", None)
    assert seen[-1] == ("publish", None)  # a new step has no share yet


def test_shares_are_written_now_and_then(working: Make) -> None:
    made = working()
    request = made.ask("label", "8")
    [run] = queueing.due(made.ledger)
    steps.tell(made.ledger, run["id"], "unlearn", request)
    share = steps.Share(made.ledger, run["id"])
    for k in range(1000):
        share(k / 1000)
    assert made.row("progress", run=run["id"])["share"] is None
    share.written -= steps.EVERY
    share(0.5)
    share(0.6)
    assert made.row("progress", run=run["id"])["share"] == 0.5


def test_a_share_that_cannot_be_written_does_not_stop_the_work_and_a_lost_worker_does(
    working: Make,
) -> None:
    made = working()
    share = steps.Share(made.ledger, "u0", written=-1e9)
    path = made.ledger.database.path
    assert path is not None
    made.ledger.database.close()
    path.rename(path.with_name("away"))
    share(0.5)
    path.with_name("away").rename(path)
    present = worker._Presence("worker", None, over=True)
    made.ledger.database.writes_if(present.check)
    with pytest.raises(LostError, match="has ended"):
        steps.Share(made.ledger, "u0", written=-1e9)(0.5)


def test_steps_are_kept_as_json_and_errors_by_their_kind_alone() -> None:
    serializer = worker.JsonSerializer()
    kept = serializer.serialize(ExpungeError("writer 17 is unknown"))
    assert "writer" not in kept
    assert str(serializer.deserialize(kept)) == "ExpungeError"
    with pytest.raises(TypeError):
        serializer.serialize(object())
