"""The registry: methods, learners, aggregation rules, families and kinds of change, found by entry
points.

A third party's package adds its own under the same groups, without touching this one.
"""

import difflib
import functools
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from expunge.errors import ExpungeError

Group = Literal["methods", "learners", "aggregations", "families", "changes"]


def names(group: Group) -> list[str]:
    """The registered names of a group, sorted."""
    return sorted(found.name for found in _registered(group))


def load(group: Group, name: str) -> type:
    """The class registered under a name.

    Raises:
        ExpungeError: nothing is registered under it.
    """
    for found in _registered(group):
        if found.name == name:
            loaded: type = found.load()
            return loaded
    known = names(group)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ExpungeError(
        f"There is no entry {name!r} among the {group}.{hint} Known: {', '.join(known)}."
    )


def _registered(group: Group) -> tuple[EntryPoint, ...]:
    return _found(group, tuple(sys.path))


@functools.cache  # reading what is installed takes longer than taking a request
def _found(group: Group, where: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"expunge.{group}"))
