"""The catalogue: every set and all weights that can be fetched, by name.

A set is one file in `sets/`, weights are one file in `weights/`; each gives its entries as
``ENTRIES``. They are imported when they are first asked for.
"""

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import MappingProxyType

from expunge.data import sets, weights
from expunge.data.prepared import Entry, Prepared, fetch, prepared
from expunge.errors import ExpungeError


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Every entry by name, in alphabetical order."""
    found: dict[str, Entry] = {}
    for room in (sets, weights):
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            for entry in importlib.import_module(module.name).ENTRIES:
                found[entry.name] = entry
    return MappingProxyType(dict(sorted(found.items())))


def entry(name: str) -> Entry:
    """The entry of a name.

    Raises:
        ExpungeError: there is none.
    """
    known = entries()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`expunge data list` has all."
        raise ExpungeError(f"There is no set and there are no weights {name!r}; {hint}")
    return known[name]


def fetched(name: str, say: Callable[[str], None] = lambda _: None) -> Prepared:
    """The prepared entry of a name, fetched where the cache does not hold it.

    Raises:
        ExpungeError: there is no such entry, or it cannot be fetched.
    """
    return fetch(entry(name), say)


def at_hand(name: str) -> Prepared:
    """The prepared entry of a name, if it was fetched before; nothing is fetched.

    Raises:
        ExpungeError: there is no such entry, or it was not fetched.
    """
    found = prepared(entry(name))
    if found is None:
        raise ExpungeError(
            f"{name} was not fetched yet; run `expunge data fetch {name}` once, then call again."
        )
    return found
