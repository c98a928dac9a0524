"""The classification benchmark on digits: its rows, its figures, its jobs, its tables."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.audit.case import source_of
from expunge.benchmarks.classification import corner, tables
from expunge.benchmarks.classification.protocol import Protocol
from expunge.benchmarks.classification.rows import Answers, Asked, anamnesis, relearning
from expunge.benchmarks.classification.work import (
    Answering,
    Asking,
    Place,
    Reader,
    References,
    Training,
    Tuning,
    space_within,
)
from expunge.benchmarks.classification.worlds import GARMENT, GARMENTS, World, drawn, world
from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError
from expunge.learning.supervised.plain import Plain
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.salun import SalUn
from expunge.methods.search import WholeNumber
from expunge.recipe import Role
from expunge.run import Run


@pytest.fixture(scope="module")
def digits() -> World:
    return world("digits")


@pytest.fixture(scope="module")
def asking(digits: World, tmp_path_factory: pytest.TempPathFactory) -> Asking:
    folder = tmp_path_factory.mktemp("bench")
    return Asking(Place("digits", digits.digest, folder), "class", (0, 1))


def test_no_row_is_in_two_sets(digits: World) -> None:
    for kind in digits.requests:
        asked = Asked.of(digits, kind, "test")
        sets = [asked.forget, asked.retain, asked.others]
        ids = [name for samples in sets for name in samples.ids]
        assert len(set(ids)) == len(ids)
        assert len(asked.forget) + len(asked.retain) == len(digits.train)
        if kind == "class":
            assert asked.same is not None
            assert set(asked.same.batch(torch.arange(len(asked.same)))["label"].tolist()) == {3}
            assert len(asked.same) + len(asked.others) == len(digits.test)
        else:
            assert asked.same is None


def test_random_rows_are_a_share_and_the_same_each_time(digits: World) -> None:
    ten = drawn(digits.train.ids, 0.1)
    assert len(ten) == round(0.1 * len(digits.train)) == 108
    assert ten == drawn(list(reversed(digits.train.ids)), 0.1)
    assert set(drawn(digits.train.ids, 0.01)) < set(ten)


def test_methods_see_no_more_than_is_shown(digits: World, asking: Asking) -> None:
    few = replace(digits, shown=50)
    asked = Asked.of(few, "class", "validation")
    assert len(asked.retain) == 50
    assert set(asked.retain.ids) < set(Asked.of(digits, "class", "validation").retain.ids)
    model = digits.recipe.builder(0)
    data = asked.shown(asking.problem(model, 0, FineTune()))
    assert list(data[Role.RETAIN].ids) == list(asked.retain.ids)
    assert set(data[Role.TRAIN].ids) == {*asked.retain.ids, *asked.forget.ids}
    assert set(data[Role.FORGET].ids) == set(asked.forget.ids)


def test_epochs_are_cut_to_a_third_of_retraining(digits: World) -> None:
    asked = Asked.of(digits, "class", "validation")
    space = space_within(SalUn, digits, asked)
    assert space.ranges["epochs"] == WholeNumber(1, 10)  # a third of 30
    shorter = replace(digits, recipe=replace(digits.recipe, learner=Plain(3)))
    one = space_within(SalUn, shorter, asked)
    assert "epochs" not in one.ranges  # a single one, so that nothing is left to vary
    assert "learning_rate" in one.ranges


def test_garments_cover_every_class() -> None:
    assert len(GARMENT) == 10
    assert set(GARMENT) == set(range(len(GARMENTS)))


def test_an_unknown_world_and_a_missing_request_are_said() -> None:
    with pytest.raises(ExpungeError, match="no world 'digit'; there are digits"):
        world("digit")
    with pytest.raises(ExpungeError, match="no request of the kind 'subject'; it has class"):
        world("digits").request("subject")
    with pytest.raises(ExpungeError, match="1 seed was given; at least 2"):
        Protocol(Path(), seeds=1)
    with pytest.raises(ExpungeError, match="no request of the kind 'classes'; there are class"):
        Protocol(Path(), requests=("classes",))


def test_requests_can_be_chosen_and_a_world_without_them_says_so(tmp_path: Path) -> None:
    chosen = Protocol(tmp_path, methods=("cf-k",), seeds=2, trials=0, requests=("random 1 %",))
    found = chosen.conduct(lambda *_: None)["worlds"]["digits"]["requests"]
    assert list(found) == ["random 1 %"]
    with pytest.raises(ExpungeError, match="'digits' has no request of the kind 'subject'"):
        replace(chosen, requests=("subject",)).conduct(lambda *_: None)


def test_an_oracle_is_at_no_distance_from_itself(digits: World, asking: Asking) -> None:
    training = Training(asking.place, "class", 0)
    assert training.done()["model"] == digest_of(training.model())
    oracle = training.model()
    asked = Asked.of(digits, "class", "test")
    found = Answers.of(digits, asked, oracle, Run())
    far = found.distances([found])
    assert far == {"JSD": 0.0, "activation distance": 0.0, "completeness": 1.0, "ToW": 1.0}
    figures = found.figures()
    assert figures["UA"] == 1.0  # it never saw the class
    assert figures["held-out forgotten"] == 0.0


def test_relearning_is_counted_in_an_oracles_steps(digits: World) -> None:
    oracle, never = [0.0, 0.2, 0.5, 0.96, 1.0], [0.0] * 5
    learned = {"not relearned": 0.0}
    assert anamnesis(oracle, [oracle], 1.0) == {"AIN": 1.0, **learned}
    first = [0.0, 0.96, 1.0, 1.0, 1.0]
    assert anamnesis(first, [oracle], 1.0) == {"AIN": pytest.approx(1 / 3), **learned}
    both = anamnesis(never, [oracle, [1.0] * 5], 1.0)
    assert both == {"AIN": pytest.approx((4 / 3 + 4) / 2), "not relearned": 1.0}
    assert anamnesis(oracle, [never], 1.0) == {"AIN": 3 / 4, **learned}  # at most
    assert anamnesis(never, [never], 1.0) == {"AIN": None, "not relearned": 1.0}
    assert anamnesis(oracle, [oracle], 0.0)["AIN"] is None  # the original knew nothing
    broken = digits.recipe.builder(0)
    next(broken.parameters()).data.fill_(float("inf"))
    with pytest.raises(ExpungeError, match="finite"):
        relearning(digits, Asked.of(digits, "class", "test"), broken, Run())


def test_what_cannot_learn_any_more_has_no_index_and_the_rest_of_its_figures(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise ExpungeError("The loss is not finite.")

    monkeypatch.setattr(Reader, "relearned", lost)
    with pytest.warns(UserWarning, match="could not be relearned: The loss is not finite"):
        found = Answering(asking, "fine-tune", "", 0, (("epochs", 1),)).done()["as it comes"]
    assert "AIN" not in found
    assert found["UA"] is not None


def test_bounds_of_relearning_are_marked() -> None:
    result = _result()
    of_class = result["worlds"]["toy"]["requests"]["class"]
    for cell in of_class["methods"]["good"]["preset"]:
        cell["as it comes"] |= {"AIN": 2.0, "not relearned": 1.0}
    for oracle in of_class["references"]["oracles"]:
        oracle |= {"AIN": 1.0, "not relearned": 0.0}
    _, columns, rows, _ = tables.tables(result)[0]
    place = list(columns).index("AIN")
    assert {row[0]: row[place] for row in rows}["good"] == ">200±0"
    assert {row[0]: row[place] for row in rows}["oracle"] == "100±0"
    assert {row[0]: row[place] for row in rows}["lossy"] == "-"


def test_every_job_of_one_method(asking: Asking) -> None:
    references = References(asking).done()
    assert [o["UA"] for o in references["oracles"]] == [1.0, 1.0]
    assert all(o["UA"] < 0.1 for o in references["originals"])
    assert all(o["AIN"] < 0.2 for o in references["originals"])  # nothing is left to relearn
    assert all(0.5 < o["AIN"] < 2.0 for o in references["oracles"])
    source = source_of(GradientDifference)
    tuned = Tuning(asking, "gradient-difference", source, 3).done()
    assert len(tuned["trials"]) == 3
    gaps = [t["gap"] for t in tuned["trials"]]
    assert tuned["gap"] == min(gaps)
    assert tuned["preset"] == (gaps.index(min(gaps)) == 1)  # the second trial is the preset's
    given = tuple(sorted((tuned["parameters"] or {"epochs": 2}).items()))
    job = Answering(asking, "gradient-difference", source, 1, given)
    first, second = job.done(), job.done()
    digits_of = {k: v for k, v in first.items() if "seconds" not in k}
    assert digits_of == {k: v for k, v in second.items() if "seconds" not in k}
    assert set(first["as it comes"]) == set(references["oracles"][0])


def test_a_method_that_fails_says_why_and_stops_nothing(asking: Asking) -> None:
    job = Answering(asking, "fine-tune", "", 0, (("learning_rate", 1e30),))
    assert "finite" in job.done()["failed"]


def _figures(right: float, **others: float) -> dict[str, float]:
    figures = {"UA": 1 - right, "RA": 1.0, "TA": 0.9, "LR-MIA": right, "SVC-MIA": 0.5, "ToW": 1.0}
    return {**figures, "held-out forgotten": right, **others}


def _result() -> dict[str, Any]:
    def cells(*found: dict[str, float]) -> list[dict[str, Any]]:
        return [
            {"fitting seconds": 0.1, "as it comes": f, "matched": f, "seconds": 0.9} for f in found
        ]

    request = {
        "request": "the threes",
        "forget rows": 10,
        "retraining seconds": 10.0,
        "references": {
            "originals": [_figures(1.0), _figures(1.0)],
            "oracles": [_figures(0.0), _figures(0.2)],
        },
        "methods": {
            "good": dict.fromkeys(("preset", "tuned"), cells(_figures(0.1), _figures(0.1))),
            "lossy": {
                "preset": [
                    {**cell, "warnings": ["nothing was dampened"]}
                    for cell in cells(_figures(0.0), _figures(0.0, RA=0.5))
                ]
            },
            "broken": {"preset": [{"failed": "it fell over"}]},
        },
    }
    rows = {"train": 100, "test": 50, "shown": 90}
    return {"worlds": {"toy": {"rows": rows, "requests": {"class": request}}}}


def test_lines_read_methods_against_the_mean_of_the_oracles() -> None:
    request = _result()["worlds"]["toy"]["requests"]["class"]
    found = {line.name: line for line in tables.lines(request, "preset")}
    assert list(found) == ["original", "oracle", "broken", "good", "lossy"]
    good = found["good"].figures["gap"]
    assert good is not None
    assert good.mean == pytest.approx(0.0)
    apart = found["oracle"].figures["gap"]  # 0 and .2 of the forget rows answered, UA and LR
    assert apart is not None
    assert apart.mean == pytest.approx((0.2 + 0.2) / 4)
    original = found["original"].figures["gap"]
    assert original is not None
    assert original.mean == pytest.approx((0.9 + 0.9) / 4)
    share = found["good"].figures["RTE"]
    assert share is not None
    assert share.mean == pytest.approx(0.1)
    assert found["broken"].failed == "it fell over"
    assert found["lossy"].collapsed
    assert not found["good"].collapsed


def test_tables_name_what_collapsed_and_what_failed() -> None:
    made = tables.tables(_result())
    below = [sentence for _, _, _, sentences in made for sentence in sentences]
    assert "broken: it fell over" in below
    assert any("lossy (50 %)" in sentence for sentence in below)
    assert "lossy: nothing was dampened" in below
    assert tables.content(_result())["toy"]["class"]["preset"]["good"]["failed"] is None


def test_what_presets_keep_is_the_worst_seed() -> None:
    title, columns, rows, below = tables.tables(_result())[-1]
    assert title == "What shipped presets keep"
    assert columns == ["", "toy, class"]
    assert sorted(map(tuple, rows)) == [("broken", "refused"), ("good", "100"), ("lossy", "50*")]
    assert "below 90 %" in below[0]


def test_a_spread_of_one_seed_has_no_deviation() -> None:
    alone = tables.Spread.of([0.5, None])
    assert alone is not None
    assert math.isnan(alone.sd)
    assert str(alone) == "50"
    assert str(tables.Spread(0.5, 0.011)) == "50±1"
    assert tables.Spread.of([None]) is None


def test_the_corner_is_a_picture_for_each_request_and_setting() -> None:
    found = corner.pictures(_result())
    assert set(found) == {
        f"toy-class-{s}{m}" for s in ("preset", "tuned") for m in ("", "-matched")
    }
    assert all(png.startswith(b"\x89PNG") for png in found.values())
    assert found["toy-class-preset"] != found["toy-class-tuned"]


@pytest.mark.slow
def test_a_stopped_benchmark_goes_on_to_the_same_digits(tmp_path: Path) -> None:
    def conducted(folder: Path, methods: tuple[str, ...]) -> dict[str, Any]:
        return Protocol(folder, methods=methods, seeds=2, trials=1).conduct(lambda *_: None)

    conducted(tmp_path / "stopped", ("fine-tune",))
    both = ("fine-tune", "ssd")
    one, other = (conducted(tmp_path / name, both) for name in ("stopped", "whole"))
    assert _without_seconds(one) == _without_seconds(other)


def _without_seconds(found: Any) -> Any:
    if isinstance(found, dict):
        return {k: _without_seconds(v) for k, v in found.items() if "seconds" not in k}
    return [_without_seconds(v) for v in found] if isinstance(found, list) else found
