"""Jobs: pieces of a long benchmark, each done in a process of its own and stored when it is done.

A result is found again under the digest of everything that its job depends on, so that a benchmark
that was stopped goes on where it was. Every process has one thread: the digits of a result do not
depend on how many jobs run beside it.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from expunge import __version__
from expunge.processes import one_threaded
from expunge.storage import write_bytes

Result = Mapping[str, Any]
"""What a job found, as JSON values; :func:`conducted` adds the ``warnings`` that it gave."""


class Job(Protocol):
    """A piece of work that can be sent to another process, such as a frozen dataclass."""

    @property
    def title(self) -> str:
        """What is told of it, in a few words."""
        ...

    def depends_on(self) -> Mapping[str, object]:
        """All that the result depends on beside versions of libraries, as JSON values."""
        ...

    def done(self) -> Result:
        """Do it. An error stops the benchmark; what may fail is to be said under ``failed``."""
        ...


Told = Callable[[str, bool], None]
"""Is told the title of each job, and whether its result was stored before."""

Some = TypeVar("Some", bound=Job)


def conducted(jobs: Sequence[Some], folder: Path, processes: int, told: Told) -> list[Result]:
    """The results of all jobs, in their order; jobs of one key are done once.

    A result that holds ``failed`` is not stored, since a failure may be of the machine: a benchmark
    that is run again tries it again.

    Args:
        jobs: none needs the result of another of them.
        folder: where results are stored, one file each.
        processes: how many run at once.
        told: is called when a job is done.

    Raises:
        ExpungeError: a process ended before its job was done; finished jobs are kept.
    """
    keys = [key_of(job) for job in jobs]
    of_key = dict(zip(keys, jobs, strict=True))
    results: dict[str, Result] = {}
    for key, job in of_key.items():
        if (stored := _read(folder / f"{key}.json")) is not None:
            results[key] = stored
            told(job.title, True)
    left = [key for key in of_key if key not in results]
    with one_threaded(min(processes, len(left))) as pool:
        futures = {pool.submit(_done, of_key[key]): key for key in left}
        for future in _finished(futures):
            key = futures[future]
            results[key] = future.result()
            if results[key].get("failed") is None:
                content = {"depends on": of_key[key].depends_on(), "result": results[key]}
                write_bytes(folder / f"{key}.json", json.dumps(content, indent=1).encode())
            told(of_key[key].title, False)
    return [results[key] for key in keys]


def by_job(jobs: Sequence[Some], folder: Path, processes: int, told: Told) -> dict[Some, Result]:
    """The result of every job, by the job, each once; as :func:`conducted`."""
    each = list(dict.fromkeys(jobs))
    return dict(zip(each, conducted(each, folder, processes, told), strict=True))


def key_of(job: Job) -> str:
    """The digest (SHA-256, hexadecimal) under which the result of a job is stored."""
    kind = type(job)
    named = [kind.__module__, kind.__qualname__, __version__, torch.__version__]
    return hashlib.sha256(
        json.dumps([named, job.depends_on()], sort_keys=True).encode()
    ).hexdigest()


def _read(path: Path) -> Result | None:
    """A stored result; None where there is none or its file is damaged."""
    try:
        result: Result = json.loads(path.read_bytes())["result"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result


def _finished(futures: Iterable[Future[Result]]) -> Iterator[Future[Result]]:
    """Each when it is done; of several the sound ones first, since an error ends all."""
    waiting = set(futures)
    while waiting:
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from sorted(finished, key=lambda future: future.exception() is not None)


def _done(job: Job) -> Result:
    """The result, with what was warned of meanwhile under ``warnings``."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        result = job.done()
    sentences = [str(w.message) for w in said if issubclass(w.category, UserWarning)]
    return {**result, "warnings": list(dict.fromkeys(sentences))}
