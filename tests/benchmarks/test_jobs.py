"""Jobs are done once, found again, and done again where their result is gone or damaged."""

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.jobs import by_job, conducted, key_of
from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Squaring:
    """Writes a line whenever it is done."""

    number: int
    log: Path

    @property
    def title(self) -> str:
        return f"square of {self.number}"

    def depends_on(self) -> Mapping[str, object]:
        return {"number": self.number}

    def done(self) -> Mapping[str, Any]:
        if self.number < 0:
            raise ValueError("negative")
        with self.log.open("a") as log:
            log.write(f"{self.number}\n")
        warnings.warn(f"{self.number} is squared", stacklevel=1)
        return {"square": self.number**2, "threads": torch.get_num_threads()}


def test_results_come_in_order_and_are_found_again(tmp_path: Path) -> None:
    log, told = tmp_path / "log", []
    jobs = [Squaring(n, log) for n in (3, 1, 2)]
    first = conducted(jobs, tmp_path / "r", 2, lambda title, stored: told.append(stored))
    assert [r["square"] for r in first] == [9, 1, 4]
    assert {r["threads"] for r in first} == {1}
    assert [r["warnings"] for r in first] == [[f"{n} is squared"] for n in (3, 1, 2)]
    damaged = tmp_path / "r" / f"{key_of(jobs[1])}.json"
    damaged.write_text(damaged.read_text()[:20])
    again = conducted(jobs, tmp_path / "r", 2, lambda title, stored: told.append(stored))
    assert again == first
    assert told == [False] * 3 + [True, True, False]
    assert sorted(log.read_text().split()) == ["1", "1", "2", "3"]


def test_what_was_done_before_an_error_is_kept(tmp_path: Path) -> None:
    jobs = [Squaring(n, tmp_path / "log") for n in (2, -1)]
    with pytest.raises(ValueError, match="negative"):
        conducted(jobs, tmp_path / "r", 1, lambda *_: None)
    assert (tmp_path / "r" / f"{key_of(jobs[0])}.json").exists()


def test_a_job_that_is_there_twice_is_done_once(tmp_path: Path) -> None:
    log, told = tmp_path / "log", []
    jobs = [Squaring(n, log) for n in (2, 3, 2)]
    listed = conducted(jobs, tmp_path / "r", 1, lambda title, stored: told.append(title))
    assert [r["square"] for r in listed] == [4, 9, 4]
    assert sorted(told) == ["square of 2", "square of 3"]
    assert sorted(log.read_text().split()) == ["2", "3"]
    found = by_job(jobs, tmp_path / "r", 2, lambda *_: None)
    assert {job.number: r["square"] for job, r in found.items()} == {2: 4, 3: 9}


@dataclass(frozen=True)
class Failing(Squaring):
    """Fails until its log exists; the process ends where ``ends`` is set."""

    ends: bool = False

    def done(self) -> Mapping[str, Any]:
        if self.ends:
            os._exit(9)
        if self.log.exists():
            return super().done()
        self.log.touch()
        return {"failed": "no memory"}


def test_a_failure_is_tried_again(tmp_path: Path) -> None:
    job, told = Failing(2, tmp_path / "log"), []
    for _ in range(3):
        [result] = conducted([job], tmp_path / "r", 1, lambda _, stored: told.append(stored))
    assert result["square"] == 4
    assert told == [False, False, True]


def test_a_process_that_ends_is_said_and_what_was_done_is_kept(tmp_path: Path) -> None:
    done, killed = Squaring(2, tmp_path / "log"), Failing(3, tmp_path / "log", ends=True)
    with pytest.raises(ExpungeError, match=r"for lack of memory.*fewer processes"):
        conducted([done, killed], tmp_path / "r", 1, lambda *_: None)
    assert [p.stem for p in (tmp_path / "r").iterdir()] == [key_of(done)]


@dataclass(frozen=True)
class Waiting:
    """Says which process it is in, and goes on for ever."""

    log: Path
    title: str = "waiting"

    def depends_on(self) -> Mapping[str, object]:
        return {}

    def done(self) -> Mapping[str, Any]:
        self.log.write_text(str(os.getpid()))
        time.sleep(600)
        return {}


def _wait_for_ever(folder: Path) -> None:
    conducted([Waiting(folder / "pid")], folder / "r", 1, lambda *_: None)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_benchmark_leaves_no_process_behind(tmp_path: Path) -> None:
    benchmark = multiprocessing.get_context("spawn").Process(
        target=_wait_for_ever, args=(tmp_path,)
    )
    benchmark.start()
    log = tmp_path / "pid"
    while not (log.exists() and log.read_text()):
        assert benchmark.is_alive()
        time.sleep(0.1)
    worker = int(log.read_text())
    assert _runs(worker)
    benchmark.kill()
    benchmark.join()
    deadline = time.monotonic() + 60
    while _runs(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(worker)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_folder_of_a_job_is_not_part_of_its_key(tmp_path: Path) -> None:
    one, other = Squaring(1, tmp_path / "a"), Squaring(1, tmp_path / "b")
    assert key_of(one) == key_of(other) != key_of(Squaring(2, tmp_path / "a"))
