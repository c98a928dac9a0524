"""Counting: how many requests, runs and versions there are, for whoever watches a ledger."""

from collections.abc import Mapping
from dataclasses import dataclass

from filelock import FileLock, Timeout
from sqlalchemy import func, select

from expunge.ledger.chain import ledger_time
from expunge.ledger.locks import taken, worker_file
from expunge.ledger.looking import OPEN
from expunge.ledger.opening import Ledger
from expunge.ledger.queueing import ACTIVE
from expunge.ledger.rows import rows
from expunge.ledger.tables import models, requests, runs


@dataclass(frozen=True)
class Counts:
    """What a ledger holds, by the names of its models.

    Attributes:
        requests: by (model, state).
        overdue: by model, those not answered whose deadline is past; 0 where there are none.
        runs: by (model, kind, state), those that have not ended.
        versions: number of the current version, by model.
    """

    requests: Mapping[tuple[str, str], int]
    overdue: Mapping[str, int]
    runs: Mapping[tuple[str, str, str], int]
    versions: Mapping[str, int]


def counts(ledger: Ledger) -> Counts:
    """Count; nothing is read but rows."""
    by_state = (
        select(models.c.name, requests.c.state, func.count())
        .join(models, models.c.id == requests.c.model)
        .group_by(models.c.name, requests.c.state)
    )
    active = (
        select(models.c.name, runs.c.kind, runs.c.state, func.count())
        .join(models, models.c.id == runs.c.model)
        .where(runs.c.state.in_(ACTIVE))
        .group_by(models.c.name, runs.c.kind, runs.c.state)
    )
    with ledger.database.reading() as connection:
        late = (
            select(models.c.name, func.count())
            .join(models, models.c.id == requests.c.model)
            .where(requests.c.state.in_(OPEN), requests.c.deadline < ledger_time(connection))
            .group_by(models.c.name)
        )
        current = select(models.c.name, models.c.version)
        versions = {name: int(number) for name, number in connection.execute(current)}
        return Counts(
            {(name, state): int(n) for name, state, n in connection.execute(by_state)},
            {**dict.fromkeys(versions, 0), **{m: int(n) for m, n in connection.execute(late)}},
            {(m, kind, state): int(n) for m, kind, state, n in connection.execute(active)},
            versions,
        )


def worker_present(ledger: Ledger) -> bool:
    """Whether a worker runs: it holds a lock for as long as it lives."""
    database = ledger.database
    if database.path is None:
        with database.reading() as connection:
            return any(taken(connection, row["id"]) for row in rows(connection, "workers"))
    lock = FileLock(worker_file(database.path), mode=0o600)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
