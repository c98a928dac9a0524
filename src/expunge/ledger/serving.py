"""Serving: the current version for whoever answers with it, whole at every moment.

What ``latest`` is stands in one field of one row, which changes in the transaction that publishes a
version. A reader looks at that row, builds the version that it names, and goes on answering with
the old one until the new one stands.
"""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from expunge.changes.deletion import DeletionState
from expunge.changes.kinds import Redaction
from expunge.changes.redaction import removed_from
from expunge.changes.weights import digest_of, stored_tensors
from expunge.errors import ConflictError, ExpungeError, IntegrityError, UnknownError
from expunge.ledger.material import Material
from expunge.ledger.opening import Ledger, model_row
from expunge.ledger.rows import Record, one
from expunge.ledger.standing import Standing
from expunge.ledger.steps import read_history
from expunge.storage import write_tensors

LATEST = "latest"
"""Name of the link to the current version in a folder of versions."""


@dataclass(frozen=True, eq=False)
class Version:
    """A version in memory: ``model`` with its guards around it, what its row says, the material it
    is of, and what is left out of the stores that it is served from."""

    number: int
    digest: str
    deletion_state: str | None
    model: nn.Module
    material: Material
    redactions: tuple[Redaction, ...] = ()

    def removed(self, store: str) -> frozenset[str]:
        """The ids that this version is not served from a store, such as ``index``."""
        return removed_from(self.redactions, store)


def version_row(ledger: Ledger, model: str, number: int | None = None) -> tuple[Record, Record]:
    """A model's row and that of a version, the current one by default.

    Raises:
        ExpungeError: there is no such model or version.
    """
    with ledger.database.reading() as connection:
        row = model_row(connection, model)
        wanted = row["version"] if number is None else number
        found = one(connection, "versions", model=row["id"], number=wanted)
    if found is None:
        raise UnknownError(
            f"The model {model!r} has no version {number}; its versions are 0 to {row['version']}."
        )
    return row, found


def built(ledger: Ledger, model: str, number: int | None = None, guards: bool = True) -> Version:
    """A version of a model, folded from its base and changes.

    Raises:
        ExpungeError: there is none, or it was destroyed when the history was sealed.
        IntegrityError: what it folds to is not what its certificate names.
    """
    row, version = version_row(ledger, model, number)
    history = read_history(ledger, version["history"])
    standing = Standing.of(ledger, row)
    bare = standing.deployment(history, guards=False).model
    found = digest_of(bare)
    if found != version["weights_digest"]:
        raise IntegrityError(
            f"Version {version['number']} of {model!r} folds to the weights {found[:12]}, and its "
            f"certificate names {version['weights_digest'][:12]}; `expunge ledger verify` names "
            "what was altered."
        )
    return Version(
        version["number"],
        found,
        version["deletion_state"],
        standing.deployment(history).model if guards else bare,
        standing.material,
        standing.redactions(history) if guards else (),
    )


@dataclass(eq=False)
class Latest:
    """The current version of a model, for a server: :meth:`get` in every request.

    Args:
        ledger: where the model is registered.
        model: its name.
    """

    ledger: Ledger
    model: str
    _version: Version | None = None
    _lock: Any = field(default_factory=threading.Lock)

    def get(self) -> Version:
        """The current version. One that was published since is built once, by one caller; all
        others are given the old one until it stands."""
        number = self._number()
        known = self._version
        if known is not None and known.number >= number:
            return known
        if self._lock.acquire(blocking=known is None):
            try:
                if self._version is None or self._version.number < number:
                    self._version = self._built(number)
            finally:
                self._lock.release()
        assert self._version is not None
        return self._version

    def _number(self) -> int:
        with self.ledger.database.reading() as connection:
            return int(model_row(connection, self.model)["version"])

    def _built(self, number: int) -> Version:
        """A version, or the one that took its place, and its objects, while it was built."""
        while True:
            try:
                return built(self.ledger, self.model, number)
            except ExpungeError:
                newer = self._number()
                if newer == number:
                    raise
                number = newer


def materialise(ledger: Ledger, model: str, out: Path, number: int | None = None) -> Path:
    """Write the weights of a version into a folder of versions; the path of its own folder.

    The folder ``latest`` beside it is a link that is put in place in one step, where the current
    version is written.

    Raises:
        ExpungeError: as :func:`built`, or the version is only suppressed, by what is no weights.
    """
    version = built(ledger, model, number, guards=False)
    if version.deletion_state == DeletionState.SUPPRESSED.value:
        raise ConflictError(
            f"Version {version.number} of {model!r} is suppressed: its weights alone would answer "
            "what is to be forgotten. Serve it from the ledger, behind its guards and redactions."
        )
    own = out / f"{version.number:06d}-{version.digest[:12]}"
    facts = {"digest": version.digest, "model": model, "version": version.number}
    write_tensors(own / "model.safetensors", stored_tensors(version.model), facts)
    if number is None:
        link = out / f".{LATEST}.{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(own.name)
        os.replace(link, out / LATEST)
    return own
