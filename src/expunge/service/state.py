"""What a process of the service holds: the ledger, its settings, and models that were opened."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from expunge.ledger.opening import Ledger, model_row
from expunge.ledger.rows import Record
from expunge.ledger.runs import MARKS
from expunge.ledger.standing import Standing
from expunge.service.passwords import Passwords
from expunge.service.settings import Settings

READERS = 2


@dataclass(eq=False)
class OpenModels:
    """Registered models in memory, the least recently used leaves first. Safe between threads.

    Args:
        ledger: where they are registered.
        limit: how many are kept.
    """

    ledger: Ledger
    limit: int
    _open: OrderedDict[str, Standing] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _opening: dict[str, threading.Lock] = field(default_factory=dict)

    def standing(self, model: str) -> Standing:
        """A model with its rows and its base, as it stands after the last seal.

        Raises:
            UnknownError: there is no such model.
            ExpungeError: its rows or its base cannot be read.
        """
        row = self._row(model)
        with self._lock:
            opening = self._opening.setdefault(model, threading.Lock())
        with opening:
            found = self._known(row)
            return self._kept(Standing.of(self.ledger, row)) if found is None else found

    def let_go(self) -> None:
        """Let go of models that a seal put a new base under: their old one is to be forgotten."""
        with self._lock:
            held = list(self._open)
        for model in held:
            row = self._row(model)
            with self._lock:
                if model in self._open and not _same(self._open[model].row, row):
                    del self._open[model]

    def _row(self, model: str) -> Record:
        with self.ledger.database.reading() as connection:
            return model_row(connection, model)

    def _known(self, row: Record) -> Standing | None:
        with self._lock:
            found = self._open.get(row["name"])
            if found is None or not _same(found.row, row):
                return None
            self._open.move_to_end(row["name"])
            return found

    def _kept(self, standing: Standing) -> Standing:
        with self._lock:
            self._open[standing.row["name"]] = standing
            while len(self._open) > self.limit:
                self._open.popitem(last=False)
        return standing


def _same(held: Record, now: Record) -> bool:
    return all(held[mark] == now[mark] for mark in MARKS)


@dataclass(eq=False)
class Service:
    """What every route is given.

    Args:
        ledger: the ledger that is served.
        settings: of this process.
        models: those that were opened.
        stopping: set when the process is asked to end, so that streams do.
        computing: how many calls compute at once.
        reading: how many streams look into the ledger at once; each look takes a millisecond.
        passwords: hashes secrets and checks them.
        listeners: streams that are open; counted in the one loop of events.
    """

    ledger: Ledger
    settings: Settings
    models: OpenModels = field(init=False)
    stopping: threading.Event = field(default_factory=threading.Event)
    computing: CapacityLimiter = field(init=False)
    reading: CapacityLimiter = field(init=False)
    passwords: Passwords = field(init=False)
    listeners: int = 0

    def __post_init__(self) -> None:
        self.models = OpenModels(self.ledger, self.settings.open_models)
        self.computing = CapacityLimiter(self.settings.computing)
        self.reading = CapacityLimiter(READERS)
        self.passwords = Passwords(self.settings.argon2)


def service(request: Request) -> Service:
    """The service that a request is made to."""
    found: Service = request.app.state.service
    return found


Here = Annotated[Service, Depends(service)]
"""The service, as an argument of a route."""
