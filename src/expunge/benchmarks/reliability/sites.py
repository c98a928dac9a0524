"""Where the ledgers of the benchmark are: on SQLite each in a folder, on PostgreSQL all in one
database; and what is done with one in a process of its own."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from expunge.benchmarks.reliability import toy
from expunge.benchmarks.reliability.plan import Ask, Round
from expunge.errors import ExpungeError
from expunge.ledger import Ledger, Worker, queueing, register, revoke, seal, submit
from expunge.ledger.rows import rows
from expunge.ledger.runs import Conductor

POLL = 0.1
"""Seconds between two looks of a worker; looking more often costs more than waiting."""


@dataclass(frozen=True)
class Site:
    """One ledger, by where it is.

    Args:
        url: of its database.
        store: folder of its objects.
        keys: folder of its keys.
    """

    url: str
    store: str
    keys: Path

    def open(self) -> Ledger:
        """The ledger; engines must not cross a fork, so each process opens its own."""
        return Ledger.open(self.url, self.keys)


class Server(Protocol):
    """A PostgreSQL that the benchmark may stop."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        ...

    def stop(self) -> None:
        """Stop it at once."""
        ...


@dataclass(frozen=True)
class Sites:
    """Makes ledgers.

    Args:
        folder: of SQLite files, objects and keys.
        url: of a PostgreSQL database without a ledger; None for SQLite.
        server: that holds it, where the benchmark may stop it.
    """

    folder: Path
    url: str | None = None
    server: Server | None = None

    def site(self, name: str) -> Site:
        """The ledger of a part of the benchmark; on PostgreSQL all parts share one."""
        if self.url is not None:
            return Site(self.url, str(self.folder / "objects"), self.folder / "keys")
        return self.on_sqlite(name)

    def on_sqlite(self, name: str) -> Site:
        """A ledger in a file, whatever the others are on."""
        own = self.folder / name
        return Site(f"sqlite:///{own / 'ledger.db'}", str(own / "objects"), own / "keys")


def made(site: Site, models: Mapping[str, str]) -> None:
    """Make a ledger where there is none, and register toys by name, each with a policy by name."""
    site.keys.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger.init(site.url, site.store, site.keys)
    for name, policy in models.items():
        register(ledger, name, toy.SOURCE, toy.POLICIES[policy], toy.material())


def ids() -> list[str]:
    """Of the training rows of the toy."""
    return list(toy.material().train.ids)


def worked(site: Site) -> dict[str, str]:
    """A worker's work until nothing waits: runs by their states."""
    return Worker(site.open(), poll=POLL).until_idle()


def asked(ledger: Ledger, model: str, ask: Ask) -> str:
    """Submit a request; its id. One with a key is submitted twice, and is one request."""
    receipt = submit(ledger, model, ask.submission())
    if ask.key is not None:
        again = submit(ledger, model, ask.submission())
        if (again.request, again.repeated) != (receipt.request, True):
            raise ExpungeError(
                f"The key of request {receipt.number} of {model!r} was given twice and made two "
                "requests; one was expected. This is a fault of the ledger."
            )
    return receipt.request


def begun(ledger: Ledger, model: str, its: Round) -> list[str]:
    """Queue what a round asks of a model that nothing waits for; the ids of its requests."""
    if its.seal:
        with suppress(ExpungeError):  # every request of it was refused, or a guard alone stands
            seal(ledger, model)
    if its.revoked is not None:
        found = [r for r in _requests(ledger, model) if r["state"] == "published"]
        open_ = [r["id"] for r in found if not r["sealed"]]
        if open_ and not its.seal:
            revoke(ledger, open_[int(its.revoked * len(open_))], "operator", "asked in error")
    return [asked(ledger, model, ask) for ask in its.asks]


def _requests(ledger: Ledger, model: str) -> list[dict[str, Any]]:
    with ledger.database.reading() as connection:
        [row] = rows(connection, "models", name=model)
        found = rows(connection, "requests", model=row["id"])
    return sorted(found, key=lambda r: r["number"])


def waits(ledger: Ledger) -> bool:
    """Whether a worker would have something to do."""
    with ledger.database.reading() as connection:
        return bool(
            rows(connection, "runs", state=queueing.ACTIVE)
            or rows(connection, "requests", state="received")
        )


def calm(
    site: Site, models: Mapping[str, str], rounds: Sequence[tuple[str, Round]]
) -> dict[str, str]:
    """The same rounds on a ledger of their own, step after step in one process that nobody kills;
    digests of the weights by model.

    No step is checkpointed here, so that the machinery which is tested does not test itself.
    """
    made(site, models)
    ledger = site.open()
    conductor = Conductor(ledger, lambda _, function, *arguments: function(ledger, *arguments))
    for model, its in rounds:
        begun(ledger, model, its)
        while due := queueing.due(ledger):
            conductor.conduct(due[0]["id"])
    return digests(ledger)


def digests(ledger: Ledger) -> dict[str, str]:
    """Digests of the current weights of every model by name."""
    with ledger.database.reading() as connection:
        models = rows(connection, "models")
        versions = {(v["model"], v["number"]): v for v in rows(connection, "versions")}
    return {m["name"]: versions[m["id"], m["version"]]["weights_digest"] for m in models}
