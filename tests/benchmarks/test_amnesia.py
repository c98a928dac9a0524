"""The benchmark of selective amnesia on few people: its jobs, its choices of layers, its words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.amnesia import tables
from expunge.benchmarks.amnesia.protocol import CHOICES, EVERYTHING, STRONGEST, TRACED, Protocol
from expunge.benchmarks.amnesia.work import MATCHED, Forgetting, Tracing, map_of
from expunge.benchmarks.facts.people import FIRST_TUNING
from expunge.benchmarks.facts.work import Training
from expunge.benchmarks.facts.world import Place, Size
from expunge.errors import ExpungeError
from expunge.methods.selective_amnesia import SelectiveAmnesia
from expunge.run import Run
from expunge.signals.causal_tracing import KINDS, PLACES

SMALL = Size(10, 2, 2, layers=2, width=32, inner=64, epochs=60, learning_rate=8e-3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("amnesia"), FIRST_TUNING, SMALL)


@pytest.fixture(scope="module")
def run(place: Place) -> dict[str, Any]:
    """What moving one layer comes to."""
    Training(place, 0, 0).model()
    return dict(Forgetting(place, 0, "one", (1,), 0.12).done())


def test_moving_one_layer_leaves_all_others_and_is_compared_where_the_facts_are_gone(
    place: Place, run: dict[str, Any]
) -> None:
    assert run["kept bits"]
    steps = [step for step, _, _ in run["curve"]]
    assert steps == list(range(4, 41, 4))
    gone = [point for point in run["curve"] if point[1] <= MATCHED]
    assert gone  # else the test says nothing
    best = max(gone, key=lambda point: (point[2], -point[0]))
    assert run["matched"]["step"] == best[0]
    assert run["matched"]["forget"] == pytest.approx(best[1])


def test_what_is_to_stay_is_seen_to_have_moved(place: Place) -> None:
    whole = Forgetting(place, 0, EVERYTHING, None, 0.02)
    base = Training(place, 0, 0).model()
    problem = place.world.deployment(base, 0).problem(place.world.corner(), SelectiveAmnesia())
    after = whole._descent(problem).minimise(problem, Run(0)).model
    assert whole._held(base, after, problem)  # all was to move
    assert not replace(whole, layers=(0, 1))._held(base, after, problem)


def test_a_stored_map_is_the_method_s_own(place: Place) -> None:
    base = Training(place, 0, 0)
    stored = Tracing(base, None).done()
    method = SelectiveAmnesia()
    problem = place.world.deployment(base.model(), 0).problem(place.world.corner(), method)
    chosen = method.tracing.layers(base.model(), problem, Run(0))
    assert method.tracing.of(map_of(stored)) == chosen
    assert len(stored["effects"]) == len(KINDS)


def canned(effects: torch.Tensor, retained: dict[str, float]) -> dict[str, Any]:
    """A result of one draw with these effects, and what each choice retains."""
    told = {"clean": 0.9, "corrupted": 0.1, "facts": 5, "wrong": 0}
    found = {
        "forget": 0.0,
        "forget paraphrase": 0.0,
        "retain paraphrase": 1.0,
        "log probability": [-3.0],
        "relearned": None,
        "from others": 0.0,
    }
    runs = [
        {
            "draw": 0,
            "choice": choice,
            "layers": [0],
            "stride": 0.1,
            "curve": [(4, 0.5, 1.0)],
            "matched": {**found, "step": 4, "retain": retained[choice]}
            if choice in retained
            else None,
            "end": {"forget": 0.0, "retain": 1.0},
            "kept bits": True,
        }
        for choice in CHOICES
    ]
    references = [{"draw": 0, "without": gone, **found, "retain": 1.0} for gone in (0, 10)]
    traces = [
        {"draw": 0, "window": window, "effects": effects.tolist(), **told} for window in (1, None)
    ]
    return {"size": {"layers": 2}, "matched": 0.06, "references": references, "traces": traces,
            "runs": runs}  # fmt: skip


def test_verdicts_say_where_effects_are_and_what_was_gained() -> None:
    effects = torch.zeros(len(KINDS), 2, len(PLACES))
    effects[1, 0, PLACES.index("last")] = 0.6
    effects[1, 1, PLACES.index("last subject")] = 0.02
    effects[2, 0, PLACES.index("last")] = 0.3
    result = canned(effects, dict.fromkeys(CHOICES, 0.9) | {TRACED: 0.8})
    lines = tables.verdicts(result)
    assert "'last subject' the feed-forward part of one layer brings back 0.020 of" in lines[0]
    assert "'last' the feed-forward part of one layer brings back 0.600 of the 0.800" in lines[1]
    assert "2.0 times as much as an attention" in lines[1]
    assert f"{TRACED} beside {EVERYTHING}, retained at matched forgetting: -0.10." in lines
    assert f"{STRONGEST} beside {EVERYTHING}, retained at matched forgetting: 0.00." in lines
    assert [len(row) for _, columns, rows in tables.tables(result) for row in rows] == [
        len(columns) for _, columns, rows in tables.tables(result) for _ in rows
    ]
    better = [{**cell, "stride": 0.2, "matched": {**cell["matched"], "retain": 0.95}}
              for cell in result["runs"] if cell["choice"] == EVERYTHING]  # fmt: skip
    lines = tables.verdicts({**result, "runs": [*result["runs"], *better]})
    assert f"{TRACED} beside {EVERYTHING}, retained at matched forgetting: -0.15." in lines
    short = canned(effects, {})
    assert any("not both forgot" in line for line in tables.verdicts(short))
    assert tables.tables(short)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="1 to 3 draws"):
        Protocol(tmp_path, draws=4)
    with pytest.raises(ExpungeError, match="at least one oracle"):
        Protocol(tmp_path, oracles=0)


@pytest.mark.slow
def test_the_protocol_resumes_and_shows_each_choice_at_its_best(place: Place) -> None:
    def conduct() -> tuple[dict[str, Any], list[bool]]:
        told: list[bool] = []
        found = Protocol(place.folder, strides=2, processes=1, size=SMALL).conduct(
            lambda _, stored: told.append(stored)
        )
        return found, told

    result, _ = conduct()
    again, told = conduct()
    assert again["runs"] == result["runs"]
    assert all(told)
    assert {cell["draw"] for cell in result["runs"]} == {0}
    assert len(result["runs"]) == 2 * len(CHOICES)
    assert tables.verdicts(result)
