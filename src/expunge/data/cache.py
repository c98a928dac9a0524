"""The cache: what was computed once and can be computed again, under ``EXPUNGE_CACHE``."""

import os
from collections.abc import Callable
from pathlib import Path

from expunge.errors import IntegrityError
from expunge.storage import Bundle


def folder() -> Path:
    """``EXPUNGE_CACHE``, or ``expunge`` in the user's cache folder."""
    named = os.environ.get("EXPUNGE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "expunge"


def cached(key: str, make: Callable[[], Bundle]) -> Bundle:
    """The bundle stored under ``key``, made and stored where there is none or it is damaged.

    What is stored is read through once on opening and checked against its digest.

    Args:
        key: names everything that the content depends on.
        make: computes the content.
    """
    path = folder() / f"{key}.safetensors"
    if path.exists():
        try:
            return Bundle.load_checked(path)
        except IntegrityError:
            path.unlink(missing_ok=True)  # a damaged cache is made again
    made = make()
    made.save(path)
    return Bundle.load(path)
