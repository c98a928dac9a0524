"""A process tree to be killed: a nursery imports everything once and forks workers from itself.

A fork copies one thread and every lock as it is held at that moment. So the nursery is a process of
its own that opens no ledger and starts no thread; whoever is forked from it begins in a moment.
"""

import importlib
import json
import multiprocessing
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import torch

from expunge.benchmarks.reliability import toy
from expunge.errors import ExpungeError
from expunge.processes import VARIABLES

ENVIRONMENT = {**dict.fromkeys(VARIABLES, "1"), "CUDA_VISIBLE_DEVICES": ""}
"""One thread, and no device: torch refuses to differentiate in a fork of a process with one."""


AHEAD = ("alembic.command", "alembic.script", "dbos")
"""Modules that a ledger imports when it is opened or worked on."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        killed: by the nursery, with SIGKILL.
        result: what its function gave back (JSON values), if it came to its end.
        said: the sentence of an error for the user.
        raised: the traceback of any other error.
        seconds: on the clock, from when it was waited for.
        cpu: seconds that it computed, user and system.
    """

    killed: bool
    result: Any
    said: str | None
    raised: str | None
    seconds: float
    cpu: float


class Nursery:
    """Forks processes of one function each, waits for them, and kills them.

    Args:
        log: where what they print goes.
    """

    def __init__(self, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, str(log)), daemon=True)
        before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)  # inherited by the process
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
        other.close()
        self.cpu = 0.0
        """Seconds that the processes computed that have ended."""

    def __enter__(self) -> Self:
        self._answer()  # it has imported everything
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._process.join()

    def fork(self, function: Callable[..., object], *arguments: object) -> int:
        """Start a process; its id. ``function`` of a module gives back JSON values."""
        self._connection.send((function, arguments))
        process: int = self._answer()
        return process

    def end(self, process: int, seconds: float | None = None) -> Ended:
        """Wait for a process, with a number of seconds so long at most, and kill it then."""
        self._connection.send((process, seconds))
        ended: Ended = self._answer()
        self.cpu += ended.cpu
        return ended

    def done(self, function: Callable[..., object], *arguments: object) -> Any:
        """What a function gives back that nothing disturbs.

        Raises:
            ExpungeError: as the function.
        """
        ended = self.end(self.fork(function, *arguments))
        if ended.said is not None:
            raise ExpungeError(ended.said)
        if ended.raised is not None:
            raise RuntimeError(ended.raised)
        return ended.result

    def _answer(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise ExpungeError(
                "The process that forks the workers has ended, perhaps for lack of memory; run "
                "this again with fewer kills."
            ) from None


def _serve(connection: Connection, log: str) -> None:
    """Carry out orders until whoever gives them has ended."""
    torch.set_num_threads(1)
    printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    for name in AHEAD:
        importlib.import_module(name)
    toy.rehearse()
    children: dict[int, int] = {}  # the pipe that each reports in
    connection.send("ready")
    with suppress(EOFError):
        while True:
            first, second = connection.recv()
            if callable(first):
                connection.send(_forked(children, first, second))
            else:
                connection.send(_ended(first, children.pop(first), second))
    for process in children:
        os.kill(process, signal.SIGKILL)


def _forked(
    children: dict[int, int], function: Callable[..., object], arguments: tuple[object, ...]
) -> int:
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        _carry_out(writing, function, arguments)
    os.close(writing)
    children[process] = reading
    return process


def _carry_out(
    writing: int, function: Callable[..., object], arguments: tuple[object, ...]
) -> NoReturn:
    told: dict[str, object] = {}
    try:
        told["result"] = function(*arguments)
    except ExpungeError as error:
        told["said"] = str(error)
    except BaseException:  # whatever it is belongs into the report
        told["raised"] = traceback.format_exc()
    with open(writing, "wb") as pipe:
        pipe.write(json.dumps(told).encode())
    os._exit(0)  # no exit handlers of the nursery


def _ended(process: int, reading: int, seconds: float | None) -> Ended:
    start, told = time.monotonic(), b""
    while True:
        left = None if seconds is None else max(0.0, start + seconds - time.monotonic())
        if not select.select([reading], [], [], left)[0]:
            os.kill(process, signal.SIGKILL)
            break
        part = os.read(reading, 2**16)
        if not part:
            break
        told += part
    _, status, used = os.wait4(process, 0)
    os.close(reading)
    killed = os.WIFSIGNALED(status)
    found: dict[str, Any] = json.loads(told) if told and not killed else {}
    return Ended(
        killed,
        found.get("result"),
        found.get("said"),
        found.get("raised"),
        time.monotonic() - start,
        used.ru_utime + used.ru_stime,
    )
