"""The benchmark of ACU in a small form, on digits: what it measures, draws and says."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from expunge.benchmarks.acu import places, protocol, tables, work
from expunge.benchmarks.acu.places import OnSquares, Place
from expunge.benchmarks.acu.work import Beside, Choosing, Emptying, Streaming
from expunge.benchmarks.jobs import key_of
from expunge.benchmarks.shipped import Work
from expunge.cli.output import console, table
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.models.random_features import RandomReLU
from expunge.recipe import Role
from expunge.run import Run


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, digits_work: Work) -> Place:
    """600 digits under 80 random features, and short courses."""
    parts = [digits_work.data[Role.TRAIN].select(torch.arange(600))]
    parts += [digits_work.validation, digits_work.test]
    samples = [part for part in parts if isinstance(part, TensorSamples)]
    head = nn.Linear(80, 10, bias=False)
    nn.init.zeros_(head.weight)
    model = nn.Sequential(nn.Flatten(), RandomReLU(64, 80), head)
    made = Place("digits", 10, model, *samples)
    monkeypatch.setattr(places, "PLACES", {"digits": lambda: made})
    monkeypatch.setattr(work, "place", lambda name: made)
    small = {"REQUESTS": 60, "CLASS_EVERY": 20, "RATES": (1e-3, 1e-2), "FEW_EACH": 4}
    small |= {"COURSE": 2, "COURSE_SHARE": 0.05, "SHOWN": (1, 2)}
    for name, value in small.items():
        monkeypatch.setattr(work, name, value)
    return made


def test_a_stream_of_requests_ends_at_the_retrained_head(here: Place) -> None:
    job = Streaming("digits", here.digest, 1.0, 0)
    found = job.done()
    assert json.loads(json.dumps(found)) == found
    assert [look["requests"] for look in found["after"]] == [1, 10, 60]
    for look in found["after"]:
        assert look["recursion"] < 1e-10
        assert look["in every bit"]
        assert look["sums"]
        assert look["resolve"] == 0
        assert look["single"] > 1e-8
    assert found["kinds"]["a class goes"] == 2
    assert found["kinds"]["a class comes back"] == 1
    assert found["same answers"] == 1
    assert found["test accuracy"] > 0.8
    assert 0 < found["by another solver"] < 1e-9
    assert key_of(job) != key_of(Streaming("digits", here.digest, 0.1, 0))


def test_what_a_stream_asks_for_can_be_answered(here: Place) -> None:
    """Nothing goes that is not there, nothing comes that is, and a class stays away until it comes
    back as a whole."""
    labels, generator = here.train.columns["label"], Run(3).generator("requests")
    there = torch.ones(len(labels), dtype=torch.bool)
    gone: list[int] = []
    for number in range(1, 200):
        asked, sign, kind = work._asked(number, labels, there, gone, generator)
        assert len(set(asked.tolist())) == len(asked)
        assert bool((there[asked] == (sign == -1)).all())
        there[asked] = sign == 1
        if kind == "a class goes":
            assert not there[labels == gone[-1]].any()
        for own in gone:
            assert not there[labels == own].any()
    assert 1 <= int(there.sum()) < len(labels)


def test_few_rows_make_the_guards_fire(here: Place) -> None:
    found = Emptying("digits", here.digest, 0).done()
    assert found["rows"] == [100, 20]
    by = {(one["precision"], one["form"]): one for one in found["forms"]}
    assert by["float64", "resolve"]["apart"] == 0
    assert by["float64", "recursion"]["apart"] < 1e-10
    assert by["float64", "recursion without guards"]["apart"] > 1e-9
    assert by["float64", "recursion"]["guards"]["drift"] >= 2
    assert by["float32", "resolve"]["apart"] > 1e-6


@pytest.mark.parametrize("kind", ["class", "rows"])
def test_acu_is_the_oracle_and_the_baselines_are_not(here: Place, kind: work.Kind) -> None:
    found = Beside("digits", here.digest, 1.0, kind, 0).done()
    assert found["shown"] == ([1] if kind == "class" else [1, 2])
    for place in range(len(found["shown"])):
        oracle = found["after"]["oracle"][place]
        assert oracle["distance"] == 0
        for name, figures in found["after"].items():
            own = figures[place]
            if name in work.EXACT:
                assert own["distance"] < 1e-6
                assert {n: own[n] for n in tables.FIGURES} == {n: oracle[n] for n in tables.FIGURES}
            elif name != "oracle":
                assert own["distance"] > 1e-3
    if kind == "class":
        assert found["after"]["oracle"][0]["forgotten"] == 0
        assert found["after"]["original"][0]["forgotten"] > 0.8
    for its in found["rates"].values():
        assert its["rate"] == work.RATES[its["gaps"].index(min(its["gaps"]))]


def test_baselines_descend_the_loss_of_a_ridge_head(here: Place) -> None:
    family, rows = OnSquares(classes=10), here.train.batch(torch.arange(4))
    losses = family.losses(here.model, rows)
    assert torch.equal(losses.values, torch.ones(4, 1))  # a head of zeros is 1 from a one-hot row


def conducted(here: Place, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(protocol, "PLACES", places.PLACES)
    monkeypatch.setattr(protocol, "place", lambda name: here)
    monkeypatch.setattr(protocol, "by_job", lambda jobs, *rest: {job: job.done() for job in jobs})
    return protocol.Protocol(folder, ("digits",), 2, 1).conduct(lambda *what: None)


def test_the_tables_say_whether_the_claim_holds(
    here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = conducted(here, tmp_path, monkeypatch)
    assert json.loads(json.dumps(result)) == result
    shown = ""
    for title, columns, rows in tables.tables(result):
        assert all(len(row) == len(columns) for row in rows)
        with console.capture() as captured:
            console.print(table(title, columns, rows), width=80)
        shown += captured.get()
    assert "float32, ridge 0.1, recursion" in shown
    assert "gradient ascent, 2" in shown
    [_, said] = tables.sentences(result)
    assert "equal to retraining within 1e-10: yes" in said
    assert "0 by solving the sums, equal in every bit at 9 of 9 looks (the sums at 9)" in said
    worse = copy.deepcopy(result)
    worse["places"]["digits"]["smallest ridge"][0]["after"][1]["recursion"] = 2e-10
    assert "within 1e-10: NO; largest distance 2e-10 by the" in tables.sentences(worse)[1]


def test_the_ridge_is_the_best_on_validation_rows(here: Place) -> None:
    found = Choosing("digits", here.digest).done()
    best = work.RIDGES.index(found["ridge"])
    assert found["accuracy"][best] == max(found["accuracy"])


@pytest.mark.parametrize("given", [{"places": ("moon",)}, {"places": ()}, {"seeds": 0}])
def test_what_cannot_be_compared_is_said(given: dict[str, Any]) -> None:
    with pytest.raises(ExpungeError, match="expected"):
        protocol.Protocol(Path(), **given)
