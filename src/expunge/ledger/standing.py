"""A model as a version of it stands: its rows, its base and its history in memory.

What was read from a model's source is kept for the next step of the same process.
"""

import json
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from expunge.audit.finding import Search
from expunge.changes.history import Epoch, History, Served
from expunge.changes.kinds import Change, Redaction
from expunge.changes.redaction import removed_from
from expunge.changes.stored import load
from expunge.data.duplicates.content import Searched
from expunge.deployment import Deployment
from expunge.errors import IntegrityError
from expunge.ledger.keys import Keys
from expunge.ledger.material import Material, Source, check_rows
from expunge.ledger.measuring import Subject
from expunge.ledger.opening import Ledger
from expunge.ledger.past import Answer, StoredChange, StoredHistory, standing
from expunge.ledger.policy import Policy, policy_of
from expunge.ledger.rows import Record as Row
from expunge.ledger.rows import one, rows
from expunge.ledger.scope import Scope, among, held_out_names
from expunge.ledger.tables import RequestState
from expunge.recipe import MODEL, Record
from expunge.requests import Request, Rows
from expunge.storage import digest, read_facts, read_tensors


@dataclass(eq=False)
class Standing:
    """A registered model in memory.

    Args:
        ledger: where it is registered.
        row: its row.
        policy: how its requests are handled.
        source: where its material comes from.
        material: its rows without those of sealed requests; its module has the weights of the
            registered or sealed base.
        sealed_rows: keyed hashes of the rows of sealed requests.
        lock: held by whoever asks a module of it, where several threads may: a module's mode and
            hooks are one for all.
    """

    ledger: Ledger
    row: Row
    policy: Policy
    source: Source
    material: Material
    sealed_rows: bytes = b""
    lock: Any = field(default_factory=threading.Lock)
    _bases: dict[str, nn.Module] = field(default_factory=dict)
    _changes: dict[str, Change] = field(default_factory=dict)
    _records: dict[str, Record] = field(default_factory=dict)
    _search: Search | None = None

    @classmethod
    def of(cls, ledger: Ledger, row: Row) -> "Standing":
        """The model of a row of the table, its material read anew.

        Raises:
            ExpungeError: something of it is not there any more.
            IntegrityError: its training rows are others than when it was registered.
        """
        source = Source.of_bytes(ledger.read(row["spec"]))
        policy = policy_of(ledger, row)
        with ledger.file(row["base"]) as path:
            tensors = read_tensors(path)
        if digest(tensors) != row["base_digest"]:
            raise IntegrityError(
                f"The base of {row['name']!r} is not the one that was registered; `expunge ledger "
                "verify` names what was changed."
            )
        material = source.material(tensors)
        gone, sealed = _hashes(ledger, row["id"])
        check_rows(source, material, ledger.keys, gone)
        return cls(ledger, row, policy, source, _left(material, ledger.keys, sealed), sealed)

    def after_seal(self, requests: Collection[str]) -> "Standing":
        """The same without the rows of some requests, as it is once they are sealed."""
        with self.ledger.database.reading() as connection:
            found = [one(connection, "requests", id=request) for request in requests]
        hashes = b"".join(self.ledger.read(row["row_hashes"]) for row in found if row is not None)
        left = _left(self.material, self.ledger.keys, hashes)
        sealed = self.sealed_rows + hashes
        fresh: dict[str, Any] = {"_bases": {}, "_changes": {}, "_records": {}, "_search": None}
        return replace(self, material=left, sealed_rows=sealed, **fresh)

    def deployment(
        self, history: StoredHistory, guards: bool = True, record: bool = False
    ) -> Deployment:
        """The model after a history.

        Args:
            history: of a version, or of a candidate for one.
            guards: whether what acts at inference is part of it.
            record: whether its training record is, which may be large.
        """
        requests = self.requests(history.requests())
        digests = {request: asked.digest() for request, asked in requests.items()}

        def served(answer: Answer, current: bool) -> Served:
            wanted = [c for c in answer.changes if guards or c.moves]
            return Served(
                requests[answer.request],
                tuple(self.change(c) for c in wanted) if current else (),
                answer.strength,
                tuple(digests[r] for r in answer.excluded if r in digests),
            )

        last = len(history.epochs) - 1
        epochs = tuple(
            Epoch(epoch.base, tuple(served(answer, i == last) for answer in epoch.answers))
            for i, epoch in enumerate(history.epochs)
        )
        made = self.material
        return Deployment(
            self.base(history.current.base, history.current.address),
            made.family,
            made.train,
            made.train_table,
            made.rule(history.aggregation),
            data=made.data,
            recipe=made.recipe,
            record=self.record(history) if record else None,
            history=History(epochs),
        )

    def record(self, history: StoredHistory) -> Record | None:
        """The latest training record of a history; the last one that was read stays in memory.

        Raises:
            IntegrityError: it is that of other weights than when it was stored.
        """
        stored = history.latest_record
        if stored is None:
            return None
        if stored.address not in self._records:
            with self.ledger.file(stored.address) as path:
                found = Record(read_tensors(path), read_facts(path))
            if found.facts.get(MODEL) != stored.model:
                raise IntegrityError(
                    f"The training record {stored.address[:12]} of {self.row['name']!r} is not "
                    "that of the weights it was stored with; restore the ledger from a backup."
                )
            self._records.clear()
            self._records[stored.address] = found
        return self._records[stored.address]

    def base(self, found: str, address: str) -> nn.Module:
        """The module of a base of the history."""
        if found not in self._bases:
            if found == self.row["base_digest"]:
                self._bases[found] = self.material.model
            else:
                with self.ledger.file(address) as path:
                    self._bases[found] = self.material.with_weights(read_tensors(path))
        return self._bases[found]

    def change(self, stored: StoredChange) -> Change:
        """A change from the vault, which knows whether it is what was stored."""
        if stored.address not in self._changes:
            with self.ledger.file(stored.address) as path:
                self._changes[stored.address] = load(stored.kind, path)
        return self._changes[stored.address]

    def redactions(self, history: StoredHistory) -> tuple[Redaction, ...]:
        """All redactions of a history, of every epoch: new weights bring no entry back."""
        found = [
            self.change(stored)
            for answer in history.answers()
            for stored in answer.changes
            if stored.acts == "input"
        ]
        return tuple(change for change in found if isinstance(change, Redaction))

    def still_served(self, history: StoredHistory) -> dict[str, float]:
        """Of each request that a redaction alone answers: the share of its rows that a store which
        the redaction names would still be served from."""
        by_request = {a.request: a for a in history.answers() if a.redacts}
        everything, found = self.redactions(history), dict[str, float]()
        for request, _, ids in self._known(by_request):
            own = [self.change(stored) for stored in by_request[request].changes]
            stores = {s for each in own if isinstance(each, Redaction) for s in each.removed}
            gone = [removed_from(everything, store) for store in stores]
            left = sum(not all(name in removed for removed in gone) for name in ids)
            found[request] = left / len(ids)
        return found

    def requests(self, ids: Iterable[str]) -> dict[str, Request]:
        """Requests that were resolved, as a deployment sees them, by id."""
        return {name: standing(name, kind, named) for name, kind, named in self._known(ids)}

    def _known(self, ids: Iterable[str]) -> list[tuple[str, str, list[str]]]:
        with self.ledger.database.reading() as connection:
            found = [one(connection, "requests", id=request) for request in ids]
        known = [row for row in found if row is not None]
        return [
            (row["id"], row["kind"], json.loads(self.ledger.read(row["rows"]))["forget"])
            for row in known
        ]

    def subjects(self, ids: Iterable[str]) -> list[Subject]:
        """Where the rows of requests stand, for those whose words are still there."""
        found = []
        requests = self.requests(ids)
        with self.ledger.database.reading() as connection:
            by_id = {row["id"]: row for row in rows(connection, "requests", id=list(requests))}
        for request, asked in requests.items():
            scope = Scope.of_bytes(self.ledger.read(by_id[request]["scope"]))
            train = asked.target.rows(self.material.train_table)
            held_out = self.named_held_out(scope.target)
            found.append(Subject(request, asked.target.kind, train, held_out, scope.text))
        return found

    def named_held_out(self, named: Rows) -> Tensor:
        """Positions (n,) of the held-out rows that a request names."""
        table = self.material.held_out_table
        if named.column not in table.column_names:
            return torch.empty(0, dtype=torch.int64)
        wanted = set(named.values)
        found = [i for i, value in enumerate(table[named.column][:]) if str(value) in wanted]
        return torch.tensor(found, dtype=torch.int64)

    def search(self) -> Search:
        """The training table, prepared to be searched for rows that repeat others.

        Raises:
            ExpungeError: it has no column that can be compared.
        """
        if self._search is None:
            table: Any = self.material.train_table
            searched = Searched("train", table)
            self._search = Search((searched,), searched.compared_by_default())
        return self._search

    def gone(self, ids: Iterable[str]) -> Tensor:
        """Training rows (n,) bool that these requests named."""
        found = torch.zeros(len(self.material.train), dtype=torch.bool)
        for asked in self.requests(ids).values():
            found[asked.target.rows(self.material.train_table)] = True
        return found


def _left(material: Material, keys: Keys, hashes: bytes) -> Material:
    """The material without the rows that have one of these hashes."""
    if not hashes:
        return material
    return material.without(
        among(keys, material.train.ids, hashes),
        among(keys, held_out_names(material.held_out.ids), hashes),
    )


def _hashes(ledger: Ledger, model: str) -> tuple[bytes, bytes]:
    """Hashes of rows whose request was answered, so that they may be missing; and of those of
    sealed requests, which no training may see again."""
    answered = [RequestState.PUBLISHED.value, RequestState.GUARDED.value]
    with ledger.database.reading() as connection:
        found: list[dict[str, Any]] = rows(connection, "requests", model=model, state=answered)
    given = [(row, ledger.read(row["row_hashes"])) for row in found if row["row_hashes"]]
    return (
        b"".join(hashes for _, hashes in given),
        b"".join(hashes for row, hashes in given if row["sealed"]),
    )
