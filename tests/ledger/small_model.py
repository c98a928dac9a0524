"""A registered model of the digits, small enough to be unlearned in every test, and its ledger.

Its source is a function of this module, so that another process finds it, too. The function gives
an untrained network: the ledger puts the weights that were registered into it.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from expunge.benchmarks.shipped import Work, digits_classifier_work
from expunge.changes.weights import digest_of
from expunge.learning.supervised.plain import Plain
from expunge.ledger import queueing
from expunge.ledger.material import Material, Source
from expunge.ledger.opening import Ledger
from expunge.ledger.policy import Gate, Policy
from expunge.ledger.registering import register
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.runs import Conductor
from expunge.ledger.scope import Scope
from expunge.ledger.serving import built
from expunge.ledger.submitting import Submission, submit
from expunge.methods.gradient_difference import GradientDifference
from expunge.recipe import Role

SOURCE = f"{__name__}:material"
WRITERS = 40
"""Made-up people, each with a row in so many."""
METHOD = GradientDifference(epochs=5, learning_rate=3e-4)
ASCENT: Mapping[str, Any] = {
    "method": "gradient-ascent",
    "parameters": {"epochs": 2, "learning_rate": 3e-4, "batch_size": 32},
}
"""A method that reads no retain data: its deltas do not depend on one another."""
OPEN = Policy(gate=Gate(kept=0, forgotten=1, re_emergence=1), duplicates="ignore")
"""A policy that publishes whatever comes."""
STRICT = Policy(duplicates="ignore")
TABLES = ("meta", "models", "requests", "subjects", "runs", "versions", "objects", "uses")


@functools.cache
def _work() -> Work:
    return digits_classifier_work()


@functools.cache
def tables() -> tuple[Dataset, Dataset]:
    """Training and held-out rows, of people instead of classes."""
    work = _work()
    return _peopled(work.table), _peopled(work.validation_table)


def _peopled(table: Any) -> Dataset:
    people = [f"writer {i % WRITERS}" for i in range(len(table))]
    return table.remove_columns("subject").add_column("subject", people)


def material() -> Material:
    """The rows, the method and an untrained network."""
    work = _work()
    train, held_out = tables()
    return Material(
        work.recipe.builder(1),
        work.recipe.family,
        work.data[Role.TRAIN],
        train,
        work.validation,
        held_out,
        METHOD,
        recipe=replace(work.recipe, learner=Plain(10)),
        aggregation="sum",
    )


REMOVED: list[int] = []
"""Classes that the owner of the table took out of it."""


def thinned() -> Material:
    """The material, without the rows of the classes in :data:`REMOVED`."""
    whole = material()
    labels = torch.tensor(whole.train_table["label"][:])
    nothing = torch.zeros(len(whole.held_out), dtype=torch.bool)
    return whole.without(torch.isin(labels, torch.tensor(REMOVED)), nothing)


@dataclass(frozen=True)
class Working:
    """A ledger with one model, worked on in this process."""

    ledger: Ledger
    model: str = "digits"

    @classmethod
    def make(
        cls,
        folder: Path,
        network: nn.Module,
        policy: Policy = OPEN,
        source: str = SOURCE,
        url: str | None = None,
        given: Material | None = None,
    ) -> "Working":
        """A fresh one in a folder; the database is SQLite there unless there is a URL.

        ``given`` is what the source gives, with the network in the place of its model.
        """
        place = f"sqlite:///{folder / 'ledger.db'}" if url is None else url
        opened = Ledger.init(place, str(folder / "objects"), folder / "keys")
        whole = replace(material() if given is None else given, model=network)
        register(opened, cls.model, Source.of_function(source), policy, whole)
        return cls(opened)

    def ask(self, column: str, *values: str, **more: Any) -> str:
        """Submit a request; its id."""
        asked = Submission(Scope("a request", column, values), **more)
        return submit(self.ledger, self.model, asked).request

    def work(self) -> list[str]:
        """Work until nothing waits; the states that runs ended in."""
        ended = []
        while found := queueing.due(self.ledger):
            ended.append(self.conduct(found[0]["id"]))
        return ended

    def conduct(self, run: str) -> str:
        """Work on one run."""
        return Conductor(self.ledger, self.step).conduct(run)

    def step(self, name: str, function: Any, *arguments: Any) -> Any:
        """Carry a step out at once."""
        return function(self.ledger, *arguments)

    def served(self, column: str, *values: str, **more: Any) -> str:
        """Submit a request and work until it is answered."""
        request = self.ask(column, *values, **more)
        self.work()
        return request

    def row(self, table: str, **where: object) -> Record:
        """One row of a table."""
        with self.ledger.database.reading() as connection:
            found = one(connection, table, **where)
        assert found is not None
        return found

    def rows(self, table: str, **where: object) -> list[Record]:
        """Rows of a table."""
        with self.ledger.database.reading() as connection:
            return rows(connection, table, **where)

    def state(self, request: str) -> tuple[str, str | None]:
        """State and reason of a request."""
        row = self.row("requests", id=request)
        return row["state"], row["reason"]

    def version(self) -> Record:
        """The current version."""
        model = self.row("models", name=self.model)
        return self.row("versions", model=model["id"], number=model["version"])

    def weights(self) -> str:
        """Digest of the current weights, folded anew."""
        return digest_of(built(self.ledger, self.model, guards=False).model)

    def counts(self) -> dict[str, int]:
        """How many rows each table has, and how many files the vault."""
        found = {table: len(self.rows(table)) for table in TABLES}
        return {**found, "files": len(set(self.ledger.vault.addresses()))}


class Killed(BaseException):
    """What no part of the program catches, as a process that is killed."""


@dataclass(frozen=True)
class Dying(Working):
    """Is killed when so many steps were carried out, or one of this name was."""

    after: int | str = 0
    carried: list[str] = field(default_factory=list)

    def step(self, name: str, function: Any, *arguments: Any) -> Any:
        """As of a ledger that works, until it is killed."""
        found = super().step(name, function, *arguments)
        self.carried.append(name)
        if self.after in (name, len(self.carried)):
            raise Killed
        return found
