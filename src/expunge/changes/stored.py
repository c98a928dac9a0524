"""Stored changes: which kinds there are, how one is saved, and how it is loaded again by its kind.

A kind is a class that says its name in ``kind`` and has ``save`` and ``load``; it is registered
under that name in the entry-point group ``expunge.changes``. All kinds are found there, the shipped
ones too, so that a guard or an adapter of another package is stored like any other change.
"""

from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from expunge import registry
from expunge.changes.kinds import Change
from expunge.errors import ExpungeError, IntegrityError


@runtime_checkable
class Storable(Protocol):
    """A change that has a file."""

    @property
    def kind(self) -> str:
        """The name under which its class is registered."""
        ...

    def save(self, path: Path) -> None:
        """Write one file, whole or not at all; what it holds of others travels with it."""
        ...

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            IntegrityError: the file is missing, damaged, or of another kind.
        """
        ...


def kinds() -> list[str]:
    """The kinds of change that can be stored, by name, sorted."""
    return registry.names("changes")


def kind_of(change: Change) -> str:
    """The kind of a change.

    Raises:
        ExpungeError: it is of none that is registered, and so has no file.
    """
    return _storable(change).kind


def save(change: Change, path: Path) -> None:
    """Write a change to one file.

    Raises:
        ExpungeError: it is of no registered kind; nothing was written.
    """
    _storable(change).save(path)


def load(kind: str, path: Path) -> Change:
    """Read a change of a kind.

    Raises:
        IntegrityError: the kind is not registered here, or the file is damaged.
    """
    if kind not in kinds():
        raise IntegrityError(
            f"The stored change is of the kind {kind!r}, and those known here are "
            f"{', '.join(kinds())}; install the package that provides it."
        )
    found: type[Storable] = registry.load("changes", kind)
    change: Change = found.load(path)  # type: ignore[assignment]
    return change


def _storable(change: Change) -> Storable:
    kind = getattr(change, "kind", None)
    if kind in kinds() and isinstance(change, registry.load("changes", str(kind))):
        assert isinstance(change, Storable)
        return change
    raise ExpungeError(
        f"The method returned a {type(change).__name__}, which is of no kind that can be stored "
        f"({', '.join(kinds())}); install the package that provides its kind under the entry-point "
        "group `expunge.changes`, or take another method."
    )
