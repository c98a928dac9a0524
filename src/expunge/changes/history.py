"""History: the requests a model has had, what each changed, and what can be folded again.

A history is a list of epochs. A Replacement starts an epoch; inside one, Deltas are folded against
the base of the epoch, then Adapters, then Guards, and Redactions act on the input. Undoing is a
fold of what remains, never arithmetic on weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from expunge.changes.delta import Delta
from expunge.changes.kinds import Adapter, Change, Replacement
from expunge.errors import ExpungeError, IntegrityError
from expunge.requests import Request


@dataclass(frozen=True)
class Served:
    """One request that was answered.

    ``excluded`` lists the digests of the earlier requests whose rows were left out of the retain or
    training data that the change was made with: before one of those is withdrawn, this one is.
    """

    request: Request
    changes: tuple[Change, ...]
    strength: float = 1.0
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Epoch:
    """The requests answered on one base, whose digest is ``base``."""

    base: str
    served: tuple[Served, ...] = ()

    def deltas(self) -> list[tuple[Delta, float]]:
        """The (delta, strength) pairs in request order."""
        return [
            (change, entry.strength)
            for entry in self.served
            for change in entry.changes
            if isinstance(change, Delta)
        ]


@dataclass(frozen=True)
class History:
    """All epochs of a model, the current one last."""

    epochs: tuple[Epoch, ...] = field(default=())

    @classmethod
    def of(cls, base: str) -> Self:
        """The empty history of a base."""
        return cls((Epoch(base),))

    @property
    def current(self) -> Epoch:
        """The epoch that requests are folded into."""
        if not self.epochs:
            raise ExpungeError("The history has no base yet; start it with History.of(digest).")
        return self.epochs[-1]

    def requests(self) -> tuple[Request, ...]:
        """Every request answered and not withdrawn, in order."""
        return tuple(entry.request for epoch in self.epochs for entry in epoch.served)

    def with_served(self, entry: Served) -> Self:
        """The history with one more answered request.

        Raises:
            IntegrityError: a change belongs to another base.
        """
        for change in entry.changes:
            if isinstance(change, Replacement) and not self.current.served:
                found = change.before
            elif isinstance(change, Delta | Adapter):
                found = change.base
            else:
                continue
            if found != self.current.base:
                raise IntegrityError(
                    f"The change for {entry.request.name!r} was made for the base {found[:12]}; "
                    f"the history stands on {self.current.base[:12]}. Make it again from there."
                )
        latest = replace(self.current, served=(*self.current.served, entry))
        epochs = (*self.epochs[:-1], latest)
        for change in entry.changes:
            if isinstance(change, Replacement):
                epochs = (*epochs, Epoch(change.digest()))
        return replace(self, epochs=epochs)

    def without(self, request: Request) -> Self:
        """The history as if a request of the current epoch had not come; fold it anew.

        Raises:
            ExpungeError: the current epoch does not hold the request, or a later change was made
                with data that left out its rows: then the later ones are withdrawn first, the
                latest before the others, and requested again afterwards.
        """
        asked = request.digest()
        kept = tuple(e for e in self.current.served if e.request.digest() != asked)
        if len(kept) == len(self.current.served):
            raise ExpungeError(self._not_current(request))
        stale = self.stale_without(request)
        if stale:
            later = [repr(r.name) for r in stale]
            order = ", then ".join([*reversed(later), repr(request.name)])
            raise ExpungeError(
                f"The changes for {', '.join(later)} were made with data that leave out the rows "
                f"of {request.name!r}, and would not be the same without it. Withdraw {order}; "
                f"then request {', '.join(later)} again."
            )
        return replace(self, epochs=(*self.epochs[:-1], replace(self.current, served=kept)))

    def _not_current(self, request: Request) -> str:
        asked = request.digest()
        if any(past.digest() == asked for past in self.requests()):
            return (
                f"A Replacement was served for {request.name!r} or since then, so it cannot be "
                "withdrawn from the current model; start again from the model before it, without "
                "this request."
            )
        held = ", ".join(repr(e.request.name) for e in self.current.served) or "none"
        return (
            f"The request {request.name!r} was not made of this model; those that can be "
            f"withdrawn are {held}. Name one of these."
        )

    def stale_without(self, request: Request) -> Sequence[Request]:
        """The later requests whose changes left out this request's rows from the retain data."""
        asked = request.digest()
        return [e.request for e in self.current.served if asked in e.excluded]
