"""The ledger under kill -9 and under faults, with a small real model: nothing is lost, nothing is
applied twice, and every fault ends in a state that resumes."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from expunge.benchmarks.reliability import faults, killing, protocol, queue, tables
from expunge.benchmarks.reliability.nursery import Nursery
from expunge.benchmarks.reliability.plan import Plan
from expunge.benchmarks.reliability.sites import Sites, begun, ids, made, worked
from expunge.errors import ExpungeError

KILLS = 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reliability")


@pytest.fixture(scope="module")
def nursery(folder: Path) -> Iterator[Nursery]:
    with Nursery(folder / "log.txt") as made_once:
        yield made_once


def _asleep() -> None:
    time.sleep(60)


def _speaking() -> None:
    raise ExpungeError("A sentence was given; another is expected.")


def test_a_process_is_killed_or_tells_how_it_ended(nursery: Nursery) -> None:
    assert nursery.end(nursery.fork(_asleep), 0.05).killed
    told = nursery.end(nursery.fork(_speaking))
    assert (told.killed, told.said) == (False, "A sentence was given; another is expected.")
    assert "ZeroDivisionError" in str(nursery.end(nursery.fork(divmod, 1, 0)).raised)
    assert nursery.done(divmod, 7, 2) == [3, 1]
    with pytest.raises(ExpungeError, match="A sentence"):
        nursery.done(_speaking)


def test_the_same_seed_draws_the_same_rounds() -> None:
    def drawn(seed: int) -> list[Any]:
        plan = Plan(seed, [f"row {i}" for i in range(20)])
        models, rounds = next(plan.generations())
        list(rounds)
        plan.seals(models)
        return plan.drawn

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_nothing_is_lost_or_applied_twice_by_workers_that_are_killed(
    nursery: Nursery, folder: Path
) -> None:
    found = killing.killed(Sites(folder), nursery, KILLS, 0, lambda _: None)
    assert {name: wrong for name, wrong in found["checks"].items() if wrong} == {}
    assert found["kills"] == sum(found["by step"].values()) >= KILLS
    assert found["requests"].get("published", 0) >= 1


def test_every_fault_ends_in_a_state_that_resumes(nursery: Nursery, folder: Path) -> None:
    found = faults.outcomes(Sites(folder), nursery, lambda _: None)
    assert [outcome for outcome in found if not outcome["holds"]] == []
    assert len(found) == 7


def test_the_checks_see_what_they_are_made_for(nursery: Nursery, folder: Path) -> None:
    from expunge.benchmarks.reliability.checks import checked
    from expunge.benchmarks.reliability.plan import Ask, Round

    site = Sites(folder).site("wrong")
    nursery.done(made, site, {"wrong": "open"})
    ledger = site.open()
    rows = nursery.done(ids)
    taken = begun(ledger, "wrong", Round((Ask("id", (rows[0],), "negation", None),)))
    nursery.done(worked, site)
    taken += begun(ledger, "wrong", Round((Ask("id", (rows[1],), "negation", None),)))
    stray = Path(site.store) / "ab" / "cd" / ("abcd" + "0" * 60)
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"nobody's")
    weights = {"wrong": "0" * 64}
    found = nursery.done(checked, site, ["wrong"], [*taken, "r-lost"], weights)["checks"]
    assert len(found["no request is lost"]) == 2  # one is not there, and one waits
    assert len(found["the weights are those of the calm ledger"]) == 1
    assert found["gc leaves no orphan"] == []
    assert not stray.exists()


def test_a_long_queue_is_looked_at(nursery: Nursery, folder: Path) -> None:
    site = Sites(folder).site("queue")
    nursery.done(made, site, {queue.MODEL: "open"})
    found = nursery.done(queue.queued, site, 20, nursery.done(ids))
    assert found["received"] == found["requests"] == 20


def test_what_is_not_empty_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(ExpungeError, match="not empty"):
        protocol.Protocol(1, 1, out=tmp_path).conduct(lambda _: None)
    with pytest.raises(ExpungeError, match="postgresql"):
        protocol.Protocol(1, 1, url="sqlite:///a.db").conduct(lambda _: None)


def test_the_tables_say_what_went_wrong() -> None:
    killed = {
        "kills": 1,
        "by step": {"unlearn": 1},
        "checks": {"verify holds": ["event 3: altered."], "no request is lost": []},
        "requests": {"published": 1},
        "workers": 2,
        "seconds of a worker": 0.5,
        "versions": 2,
        "events": 9,
    }
    fault = {"fault": "no key", "said": "There is none.", "afterwards": "then published"}
    looks = {"per second": 9.0, "processor ms each": 1.0, "status s": 0.1, "history s": 0.1}
    result = {
        "database": "SQLite",
        "seed": 0,
        "killed": killed,
        "faults": [{**fault, "holds": True}],
        "queue": {"requests": 10, **looks},
        "seconds": 3.0,
        "processor seconds": 2.0,
    }
    assert not protocol.holds(result)
    assert tables.sentences(result)[0] == "WRONG: verify holds: event 3: altered."
    assert [title for title, *_ in tables.tables(result)][1] == "after them: 1 published"
    killed["checks"] = {}
    assert protocol.holds(result)
