"""Processes of one thread each: the digits of a result do not depend on how many run beside it."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import torch

from expunge.errors import ExpungeError

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Threads of the libraries below torch; read when a process starts."""


@contextmanager
def one_threaded(
    count: int, given: tuple[object, ...] = (), take: Callable[..., object] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes; on an error the work that waits is dropped.

    Args:
        count: processes; at least one is started.
        given: sent once to each process, as the arguments of ``take``.
        take: a function of a module, called with ``given`` when a process has started.

    Raises:
        ExpungeError: one of them ended before its work was done.
    """
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(dict.fromkeys(VARIABLES, "1"))  # inherited by those that start inside
    context = multiprocessing.get_context("spawn")  # a forked torch with threads may hang
    pool = ProcessPoolExecutor(max(1, count), context, _started, (take, given))
    try:
        yield pool
    except BrokenProcessPool:
        raise ExpungeError(
            "A process ended before its work was done, perhaps for lack of memory. What was "
            "finished is kept; run this again with fewer processes."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _started(take: Callable[..., object] | None, given: tuple[object, ...]) -> None:
    """What every process begins with: one thread, and an end when the one that asks has ended."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()  # a killed benchmark must not go on in the background
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    if take is not None:
        take(*given)
