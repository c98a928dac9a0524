"""Calls that compute for seconds: a few at a time, beside the many that only look something up."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread

from expunge.service.problems import Problem
from expunge.service.state import Service

T = TypeVar("T")
WAITING = 64
"""Calls that may wait for their turn; another is refused."""


async def computed(here: Service, function: Callable[..., T], /, *given: Any, **more: Any) -> T:
    """What a function returns that computes in a thread, when it is its turn.

    Raises:
        Problem: 503, too many wait already.
    """
    if here.computing.statistics().tasks_waiting >= WAITING:
        raise Problem(503, "Too much is being computed; ask again in some seconds.")
    call = partial(function, *given, **more)
    return await anyio.to_thread.run_sync(call, limiter=here.computing)
