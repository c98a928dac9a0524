"""A worker: carries runs out as durable workflows, so that a crash loses no step and repeats no
published effect.

DBOS keeps what each step gave back: ids and addresses, as JSON. A worker that dies leaves its
workflows to the next one that starts, or to one beside it that finds it gone. On SQLite there is
one worker at a time, held by a lock on a file; on PostgreSQL there may be many, each alive as long
as its connection holds an advisory lock. One that finds its lock lost ends, since another may have
taken up its work: it writes nothing more, and what it was at stays as a killed one leaves it.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, Serializer, SetEnqueueOptions, SetWorkflowID
from dbos import error as dbos_errors
from filelock import FileLock, Timeout
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from expunge.errors import ExpungeError
from expunge.ledger import queueing, refusals, runs
from expunge.ledger.chain import ledger_time
from expunge.ledger.locks import Held, LostError, held, worker_file
from expunge.ledger.opening import Ledger, sweep_scratch
from expunge.ledger.rows import Record, note, rows

QUEUE = "runs"
STEPS = "steps.db"
"""File of the workflows beside a SQLite ledger; on PostgreSQL they have a schema of their own."""
VERSION = "1"
"""Of the workflows: a run that a crash left is taken up by any release that knows this one."""
SCHEMA = "dbos"
ALONE = "worker"
"""Name of the one worker of a SQLite ledger."""
PATIENCE = 0.2
"""Seconds to wait for the lock of a worker: who looks whether one runs holds it for a moment."""


class JsonSerializer(Serializer):
    """Arguments and results of steps as JSON: a database that was tampered with runs no code."""

    def serialize(self, data: Any) -> str:
        """As JSON; of an error its kind alone, since its sentence may name people."""
        return json.dumps(data, default=_kind_alone, sort_keys=True)

    def deserialize(cls, serialized_data: str) -> Any:  # noqa: N805
        """Values; what was an error is one again."""
        found = json.loads(serialized_data)
        if isinstance(found, dict) and set(found) == {ERROR}:
            return RuntimeError(found[ERROR])
        return found

    def name(self) -> str:
        """As it stands beside what was written."""
        return "expunge_json"


ERROR = "error of kind"


def _kind_alone(value: object) -> object:
    if isinstance(value, BaseException):
        return {ERROR: type(value).__name__}
    raise TypeError(f"{type(value).__name__} is no JSON value")


@dataclass
class _Working:
    """The ledger of this process's worker: workflows take ids alone."""

    ledger: Ledger | None = None


_WORKING = _Working()


@DBOS.workflow(name="run")
def _workflow(run: str) -> str:
    ledger = _WORKING.ledger
    assert ledger is not None

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return DBOS.run_step({"name": name}, lambda: _carried(function, ledger, *arguments))

    try:
        return runs.Conductor(ledger, step).conduct(run)
    except Exception:  # the store is out of reach, or a fault of the program: both are resumed
        step("interrupt", queueing.interrupt, run)
        return queueing.INTERRUPTED


class _LeftError(BaseException):
    """A worker that has ended leaves a step. It is no error of the step: DBOS, which puts those
    down, lets this pass, so that the workflow stays to be taken up."""


def _carried(function: Callable[..., Any], ledger: Ledger, *arguments: Any) -> Any:
    try:
        return function(ledger, *arguments)
    except LostError as lost:
        raise _LeftError from lost


@dataclass
class _Presence:
    """Whether the worker that steps are carried out for is still there.

    Args:
        name: of the worker.
        lock: what other workers know it by; None on SQLite.
        over: it has ended, while a step may go on.
    """

    name: str
    lock: Held | None
    over: bool = False

    def check(self, connection: Connection) -> None:
        """Refuse to write where the worker has ended, or has lost its lock.

        Raises:
            LostError: it has.
        """
        if self.over:
            raise LostError("The worker has ended; the next one takes up what it was at.")
        if self.lock is not None and not self.lock.holds(connection):
            raise LostError(
                "This worker has lost its lock, since its connection to the server was cut or the "
                "server started again; it ends, and the next one takes up what it was at: "
                "`expunge ledger run`."
            )


@dataclass
class Worker:
    """Works on the runs of a ledger.

    Args:
        ledger: whose runs.
        poll: seconds between two looks for new work.
        told: called with the id and the new state of a run that ended.
    """

    ledger: Ledger
    poll: float = 0.2
    told: Callable[[str, str], None] | None = None

    def until_idle(self) -> dict[str, str]:
        """Work until nothing waits, and what is interrupted was tried a few times; the runs that
        ended, with their states."""
        return self._work(self._idle)

    def forever(self, stop: Callable[[], bool]) -> dict[str, str]:
        """Work until ``stop`` says so; what is under way is taken up by the next worker. What is
        interrupted is tried again for ever, less and less often."""
        return self._work(lambda _, __: stop())

    def _work(self, done: Callable[[Mapping[str, str], bool], bool]) -> dict[str, str]:
        if self.ledger.keys.signing is None:
            raise ExpungeError(
                "A worker signs certificates, and only the public key was given; give the folder "
                "that holds signing.pem, or set EXPUNGE_SIGNING_KEY_FILE."
            )
        sweep_scratch()
        with _told(self.ledger), self._alone() as present, _working(self.ledger, present):
            return self._until(done, present)

    def _until(
        self, done: Callable[[Mapping[str, str], bool], bool], present: "_Presence"
    ) -> dict[str, str]:
        ended: dict[str, str] = {}
        _delete_sealed(self.ledger)  # a worker may have been killed between seal and deletion
        tries: dict[str, int] = {}
        earliest: dict[str, float] = {}
        under_way: dict[str, tuple[str | None, Any]] = {}
        others: set[str] = set()
        while True:
            with self.ledger.database.reading() as connection:
                present.check(connection)
            self._take_over(present.name, others)
            others = set()
            for row in queueing.due(self.ledger):
                run = row["id"]
                if run not in under_way and time.monotonic() >= earliest.get(run, 0.0):
                    under_way[run] = row["reason"], _enqueued(row)
            for run, (since, handle) in list(under_way.items()):
                if (waits := _waits(handle)) is not None:
                    others |= waits - {present.name}
                    continue
                del under_way[run]
                state = self._ended(run, since)
                if state == queueing.INTERRUPTED:
                    tries[run] = tries.get(run, 0) + 1
                    pause = self.poll if tries[run] < TRIES else LONGEST
                    earliest[run] = time.monotonic() + pause
                    if tries[run] < TRIES:
                        continue
                ended[run] = state
                if self.told is not None:
                    self.told(run, state)
            if done(ended, bool(under_way)):
                return ended
            time.sleep(self.poll)

    def _idle(self, ended: Mapping[str, str], busy: bool) -> bool:
        """Whether all that waits was tried: what is interrupted holds up its model."""
        if busy:  # a run may have ended, and its workflow not
            return False
        with self.ledger.database.reading() as connection:
            found = rows(connection, "runs", state=queueing.ACTIVE)
        given_up = {run for run, state in ended.items() if state == queueing.INTERRUPTED}
        stuck = {row["model"] for row in found if row["id"] in given_up}
        if any(row["model"] not in stuck for row in found):
            return False
        return set(queueing.waiting(self.ledger)) <= stuck

    def _ended(self, run: str, since: str | None) -> str:
        """The state of a run whose workflow has ended; interrupted where it ended too early.

        Args:
            run: its id.
            since: how often it was interrupted before. A workflow that could not put down that it
                was once more, because the database was full or away, would be found again for ever.
        """
        with self.ledger.database.reading() as connection:
            [row] = rows(connection, "runs", id=run)
        if row["state"] in queueing.ACTIVE:
            if row["reason"] == since:
                queueing.interrupt(self.ledger, run)
            return queueing.INTERRUPTED
        if row["kind"] == queueing.SEAL and row["state"] == queueing.PUBLISHED:
            _delete_sealed(self.ledger)
        return str(row["state"])

    @contextmanager
    def _alone(self) -> Iterator[_Presence]:
        """The worker, by a name that is its own for as long as it lives."""
        database = self.ledger.database
        if database.path is not None:
            lock = FileLock(worker_file(database.path), mode=0o600)
            try:
                lock.acquire(timeout=PATIENCE)
            except Timeout:
                raise ExpungeError(
                    f"Another worker runs on {database.shown}; one at a time can on SQLite. Stop "
                    "it, or keep the ledger on PostgreSQL."
                ) from None
            with lock:
                yield _Presence(ALONE, None)
            return
        name = f"worker-{uuid.uuid4().hex[:12]}"
        with held(database, name) as mine:
            with database.writing() as writing:
                note(writing, "workers", {"id": name, "seen_at": ledger_time(writing)})
            yield _Presence(name, mine)

    def _take_over(self, name: str, others: Collection[str]) -> None:
        """Take up the workflows of workers that are gone: nobody holds their lock any more.

        Args:
            name: of this worker.
            others: names that workflows which this one waits for are carried out under. One that
                lost its lock may have begun a workflow anew after its name was taken from the list.
        """
        database = self.ledger.database
        if database.path is not None:
            return
        with database.reading() as connection:
            known = {r["id"] for r in rows(connection, "workers")} - {name}
        for other in sorted(known | set(others)):
            with database.engine.connect() as connection:
                free = connection.execute(
                    text("SELECT pg_try_advisory_lock(hashtext(:name))"), {"name": other}
                ).scalar()
                if not free:
                    continue
                DBOS._recover_pending_workflows([other])
                connection.execute(
                    text("SELECT pg_advisory_unlock(hashtext(:name))"), {"name": other}
                )
                connection.commit()
            with database.writing() as connection:
                connection.execute(text("DELETE FROM workers WHERE id = :name"), {"name": other})


TRIES = 3
"""Times that a worker takes up an interrupted run before it leaves it to the next one, or waits."""
LONGEST = 60.0
"""Seconds after which a worker that works for ever tries it again."""
WAITING = ("PENDING", "ENQUEUED", "DELAYED")
"""States of a workflow that has not ended."""


@contextmanager
def _told(ledger: Ledger) -> Iterator[None]:
    """What a driver reports while workflows are asked for, as one sentence."""
    try:
        yield
    except DBAPIError as error:
        sentence = refusals.told(error, ledger.database.shown)
        if sentence is None:  # a fault of the program
            raise
        raise sentence from None


def _enqueued(row: Record) -> Any:
    """The workflow of a run; one for each time that it was interrupted, whoever asks."""
    with (
        SetWorkflowID(f"{row['id']}.{row['reason'] or 0}"),
        SetEnqueueOptions(queue_partition_key=row["model"]),
    ):
        return DBOS.enqueue_workflow(QUEUE, _workflow, row["id"])


def _waits(handle: Any) -> set[str] | None:
    """Of a workflow that has not ended, the worker that carries it out, if one does; None of one
    that has, or that another worker deleted."""
    try:
        found = handle.get_status()
    except dbos_errors.DBOSNonExistentWorkflowError:
        return None
    if found.status not in WAITING:
        return None
    return {found.executor_id} if found.status == "PENDING" and found.executor_id else set()


def _delete_sealed(ledger: Ledger) -> None:
    """Delete what is kept of the steps of runs that ended before their model was sealed, and of
    the seal itself. May be repeated."""
    with ledger.database.reading() as connection:
        seals = rows(connection, "runs", kind=queueing.SEAL, state=queueing.PUBLISHED)
        sealed: dict[str, str] = {}
        for row in seals:
            sealed[row["model"]] = max(row["updated_at"], sealed.get(row["model"], ""))
        found = rows(connection, "runs", model=list(sealed))
    ended = {
        row["id"]
        for row in found
        if row["state"] not in queueing.ACTIVE and row["updated_at"] <= sealed[row["model"]]
    }
    if not ended:
        return
    listed = DBOS.list_workflows(load_input=False, load_output=False)
    wanted = [
        w.workflow_id
        for w in listed
        if w.workflow_id.partition(".")[0] in ended and w.status not in WAITING
    ]
    if wanted:
        DBOS.delete_workflows(wanted)


def _make_private(path: Path) -> None:
    """Make the file of the workflows, or take it and those beside it from other users: SQLite
    gives these its mode."""
    try:
        path.touch(mode=0o600)
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            with suppress(FileNotFoundError):
                path.with_name(name).chmod(0o600)
    except OSError as error:
        raise ExpungeError(
            f"{path} cannot be made or kept from other users ({error.strerror}); let its owner run "
            "the worker, in a folder that can be written."
        ) from None


def steps_url(ledger: Ledger) -> str:
    """Where the workflows are kept."""
    database = ledger.database
    if database.path is not None:
        return f"sqlite:///{database.path.with_name(STEPS)}"
    return str(database.url.render_as_string(hide_password=False))


@contextmanager
def _working(ledger: Ledger, present: _Presence) -> Iterator[None]:
    """Workflows are carried out while a worker is present. A step that goes on when it has ended
    writes nothing: it has a database of its own that asks for the worker first."""
    own = replace(ledger, database=ledger.database.another())
    own.database.writes_if(present.check)
    try:
        with _launched(own, present.name):
            yield
    finally:
        present.over = True
        own.database.close()


@contextmanager
def _launched(ledger: Ledger, name: str) -> Iterator[None]:
    if ledger.database.path is not None:
        _make_private(ledger.database.path.with_name(STEPS))
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    config: DBOSConfig = {
        "name": "expunge",
        "system_database_url": steps_url(ledger),
        "dbos_system_schema": SCHEMA,
        "application_version": VERSION,
        "executor_id": name,
        "serializer": JsonSerializer(),
        "enable_otlp": False,
        "log_level": "CRITICAL",
        "notification_listener_polling_interval_sec": 0.05,
    }
    _WORKING.ledger = ledger
    DBOS(config=config)
    try:
        DBOS.launch()
        DBOS.register_queue(QUEUE, partition_concurrency=1, polling_interval_sec=0.05)
        yield
    finally:
        DBOS.destroy()
        _WORKING.ledger = None
