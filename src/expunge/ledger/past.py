"""The stored history of a model: which requests were answered, by which stored changes, on what.

It is what :class:`~expunge.changes.history.History` is in memory, with addresses of objects in the
place of tensors and ids of requests in the place of what they name. One version has one; folding it
gives the version's weights, bit by bit.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from expunge.changes.kinds import Acts
from expunge.errors import ExpungeError
from expunge.ledger.canonical import canonical
from expunge.recipe import LEARNER, MODEL, Record
from expunge.requests import Named, Request

RECORD = "record"
"""Kind and role of a training record in the vault."""


@dataclass(frozen=True)
class StoredChange:
    """A change in the vault: its kind, its address, the digest of its content (keyed of a
    redaction), the deletion state that it leaves alone, what of a served model it acts on, and what
    its method is certified for (``scope``, ``epsilon``, ``delta``), where it is."""

    kind: str
    address: str
    digest: str
    state: str
    acts: Acts
    certified: Mapping[str, Any] | None = None

    @property
    def moves(self) -> bool:
        """Whether it moves the weights or takes their place."""
        return self.acts in ("weights", "base")


@dataclass(frozen=True)
class StoredRecord:
    """A training record in the vault: its address, the digest of the weights that it belongs to,
    and the learner that kept it, where that is known."""

    address: str
    model: str
    learner: str | None

    @classmethod
    def of(cls, record: Record, address: str) -> Self:
        """What a history says of a record that names its weights."""
        learner = record.facts.get(LEARNER)
        return cls(address, str(record.facts[MODEL]), None if learner is None else str(learner))


@dataclass(frozen=True)
class Answer:
    """How one request was answered.

    Args:
        request: its id.
        changes: what the method returned.
        strength: how far they are applied.
        excluded: ids of the earlier requests whose rows the method was not shown.
        method: its registered name.
        parameters: its fields.
        settings: where they come from.
        aggregation: the rule that all changes are combined by from here on; None where it stays.
        given: ``name`` and ``parameters`` of a guard or a repair; None for the request's own.
        record: the training record as the method left it; None where it keeps none.
    """

    request: str
    changes: tuple[StoredChange, ...]
    strength: float
    excluded: tuple[str, ...]
    method: str
    parameters: Mapping[str, Any]
    settings: str
    aggregation: str | None = None
    given: Mapping[str, Any] | None = None
    record: StoredRecord | None = None

    @property
    def moves(self) -> bool:
        """Whether it changes the weights."""
        return any(change.moves for change in self.changes)

    @property
    def guards(self) -> bool:
        """Whether it leaves the weights as they are."""
        return bool(self.changes) and not any(change.moves for change in self.changes)

    @property
    def redacts(self) -> bool:
        """Whether it acts on what the model is served, and on nothing else."""
        return bool(self.changes) and all(change.acts == "input" for change in self.changes)


@dataclass(frozen=True)
class StoredEpoch:
    """A base by digest and address, and the requests answered on it."""

    base: str
    address: str
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class StoredHistory:
    """All epochs of a version, the current one last.

    Args:
        rule: what changes are combined by where no answer says otherwise.
        epochs: bases, and the answers on each.
        sealed: the deletion state of what a seal folded into the first base; None before a seal.
        record: the training record of the first base.
        certified: what the first base is certified for, of what a seal folded into it.
    """

    rule: str
    epochs: tuple[StoredEpoch, ...]
    sealed: str | None = None
    record: StoredRecord | None = None
    certified: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        rule: str,
        base: str,
        address: str,
        sealed: str | None = None,
        record: StoredRecord | None = None,
        certified: Mapping[str, Any] | None = None,
    ) -> Self:
        """The history of a base before any request."""
        return cls(rule, (StoredEpoch(base, address),), sealed, record, certified)

    def anew(self) -> Self:
        """The same without any answer: what is made again starts from it."""
        first = self.epochs[0]
        return self.of(
            self.rule, first.base, first.address, self.sealed, self.record, self.certified
        )

    @property
    def aggregation(self) -> str:
        """The rule that the latest answer with a say in it asked for."""
        asked = [answer.aggregation for answer in self.answers() if answer.aggregation is not None]
        return asked[-1] if asked else self.rule

    @property
    def current(self) -> StoredEpoch:
        """The epoch that answers are folded into."""
        return self.epochs[-1]

    def answers(self) -> Iterator[Answer]:
        """Every answer, in order."""
        for epoch in self.epochs:
            yield from epoch.answers

    def requests(self) -> tuple[str, ...]:
        """The ids of all answered requests, each once, in order."""
        return tuple(dict.fromkeys(answer.request for answer in self.answers()))

    def records(self) -> tuple[StoredRecord, ...]:
        """Every training record, the latest last."""
        found = (self.record, *(answer.record for answer in self.answers()))
        return tuple(record for record in found if record is not None)

    @property
    def latest_record(self) -> StoredRecord | None:
        """The latest training record; see :attr:`stale`."""
        found = self.records()
        return found[-1] if found else None

    @property
    def stale(self) -> bool:
        """Whether the weights were changed since the latest record by a method that keeps none."""
        fresh = True
        for answer in self.answers():
            fresh = answer.record is not None or (fresh and not answer.moves)
        return self.latest_record is not None and not fresh

    @property
    def proven(self) -> Mapping[str, Any] | None:
        """What the weights are certified for: that of the last change of them."""
        moved = [c for answer in self.answers() for c in answer.changes if c.moves]
        return moved[-1].certified if moved else self.certified

    def addresses(self) -> set[str]:
        """Addresses of all bases, changes and records."""
        found = {epoch.address for epoch in self.epochs}
        found |= {record.address for record in self.records()}
        return found | {c.address for answer in self.answers() for c in answer.changes}

    def with_answer(self, answer: Answer) -> Self:
        """One more answer; new weights start an epoch."""
        latest = replace(self.current, answers=(*self.current.answers, answer))
        epochs = (*self.epochs[:-1], latest)
        new = [c for c in answer.changes if c.acts == "base"]
        return replace(self, epochs=(*epochs, *(StoredEpoch(c.digest, c.address) for c in new)))

    def without_guards(self, requests: Collection[str] | None = None) -> Self:
        """The history without the guards of some requests; of all by default."""
        kept = tuple(
            answer
            for answer in self.current.answers
            if not (answer.guards and (requests is None or answer.request in requests))
        )
        return replace(self, epochs=(*self.epochs[:-1], replace(self.current, answers=kept)))

    def guards(self) -> tuple[Answer, ...]:
        """The guards that act in this version, and the redactions: what leaves the weights."""
        return tuple(answer for answer in self.current.answers if answer.guards)

    def replaced(self, change: Callable[[Answer], Answer]) -> Self:
        """The history with each answer of the current epoch as ``change`` makes it."""
        latest = replace(self.current, answers=tuple(map(change, self.current.answers)))
        return replace(self, epochs=(*self.epochs[:-1], latest))

    def until(self, requests: Collection[str]) -> tuple[Self, tuple[Answer, ...]]:
        """The history up to the last answer to one of these requests, and the answers after it.

        Raises:
            ExpungeError: the history holds no answer to any of them.
        """
        for i in reversed(range(len(self.epochs))):
            epoch = self.epochs[i]
            for k in reversed(range(len(epoch.answers))):
                if epoch.answers[k].request not in requests:
                    continue
                later = [*epoch.answers[k + 1 :]]
                later += [a for e in self.epochs[i + 1 :] for a in e.answers]
                first = replace(epoch, answers=epoch.answers[:k])
                found = replace(self, epochs=(*self.epochs[:i], first))
                return found.with_answer(epoch.answers[k]), tuple(later)
        raise ExpungeError(
            "None of these requests is among the answers of this version; `expunge ledger history` "
            "lists those that are."
        )

    def to_bytes(self) -> bytes:
        """The history as canonical JSON."""
        return canonical(json.loads(json.dumps(asdict(self), default=dict)))

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """What :meth:`to_bytes` wrote."""
        found = json.loads(data)
        return cls(
            found["rule"],
            tuple(_epoch(e) for e in found["epochs"]),
            found["sealed"],
            _record(found.get("record")),
            found.get("certified"),
        )


def _record(found: Mapping[str, Any] | None) -> StoredRecord | None:
    """A record from its JSON values; histories from before there were records have none."""
    return None if found is None else StoredRecord(**found)


def _epoch(found: Mapping[str, Any]) -> StoredEpoch:
    return StoredEpoch(
        found["base"], found["address"], tuple(answer_of(a) for a in found["answers"])
    )


def _acts(kind: str) -> dict[str, str]:
    """What a change acts on, of a history that was written when there were three kinds."""
    return {"acts": {"refusal": "answers", "replacement": "base"}.get(kind, "weights")}


def answer_of(found: Mapping[str, Any]) -> Answer:
    """An answer from its JSON values."""
    return Answer(
        found["request"],
        tuple(StoredChange(**{**_acts(change["kind"]), **change}) for change in found["changes"]),
        found["strength"],
        tuple(found["excluded"]),
        found["method"],
        found["parameters"],
        found["settings"],
        found["aggregation"],
        found["given"],
        _record(found.get("record")),
    )


@dataclass(frozen=True)
class ById:
    """The target of a request that was resolved before: rows by id, of which some may be gone."""

    kind: str
    ids: tuple[str, ...]

    def rows(self, table: Named) -> Tensor:
        """Positions of those that are still there."""
        wanted = set(self.ids)
        found = [i for i, name in enumerate(table["id"][:]) if str(name) in wanted]
        return torch.tensor(found, dtype=torch.int64)

    def describe(self) -> Mapping[str, object]:
        """The ids."""
        return {"ids": sorted(set(self.ids))}


def standing(request: str, kind: str, ids: Sequence[str]) -> Request:
    """A request of the history as a deployment sees it: its id for a name, its rows by id."""
    return Request(request, ById(kind, tuple(ids)))
