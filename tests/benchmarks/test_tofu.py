"""Mini-TOFU: what is asked, what is kept apart, that its jobs see forgetting."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.jobs import key_of
from expunge.benchmarks.tofu import authors, picture, real, tables
from expunge.benchmarks.tofu.asking import Asker
from expunge.benchmarks.tofu.battery import Battery, Known, quality
from expunge.benchmarks.tofu.item import Item, equally_wrong
from expunge.benchmarks.tofu.protocol import (
    FULL,
    QUICK,
    QUICK_RATES,
    Form,
    Protocol,
    measurable,
)
from expunge.benchmarks.tofu.words import Words
from expunge.benchmarks.tofu.work import (
    Answering,
    Asking,
    Place,
    References,
    Training,
    distance,
    fitting,
)
from expunge.benchmarks.tofu.world import ASKED, FRESH, TUNING, World, spread
from expunge.cli.output import console, table
from expunge.data import catalogue
from expunge.data.encoding import IGNORED
from expunge.errors import ExpungeError
from expunge.models.tiny_llama import TinyLlama
from expunge.run import Run
from expunge.signals.utility import SETS

SMALL = World(count=6, epochs=70, facts=1, kept=8, layers=2, width=48, inner=96)
SHARE = 1 / 3


# ---- what is asked ----


def test_the_first_of_more_authors_are_those_of_fewer_and_nobody_is_twice() -> None:
    few, many = authors.drawn(30), authors.drawn(220)
    assert many[:30] == few
    assert len({author.name for author in many}) == 220
    assert authors.drawn(30, draw=1) != few


def test_a_paraphrase_says_the_same_in_words_that_were_not_taught() -> None:
    for item in authors.items(authors.drawn(50)):
        assert item.paraphrase != item.answer
        assert len({item.paraphrase, *item.wrong}) == 1 + authors.WRONG
        # wrong answers differ from the paraphrase in the value alone
        assert {len(text.split()) for text in item.wrong} == {len(item.paraphrase.split())}
        assert item.subject in item.question


def test_real_facts_have_three_wrong_answers_that_are_not_right() -> None:
    for item in [*real.real_authors(), *real.world_facts()]:
        assert item.paraphrase == item.answer
        assert len({item.answer, *item.wrong}) == 1 + real.WRONG
        again = real.rephrased(item)
        assert len({item.question, *(other.question for other in again)}) == 3
        assert {other.answer for other in again} == {item.answer}


SPELT_OTHERWISE = {"zloty", "dong", "Ulaanbaatar", "tugrik", "Brasilia"}


def test_the_facts_about_countries_are_those_of_the_catalogue() -> None:
    try:
        known = catalogue.at_hand("country-facts").load()
    except ExpungeError as error:
        pytest.skip(str(error))
    answers: dict[tuple[str, str], str] = {}
    for row in known:
        key = (row["subject"], row["relation"])
        answers[key] = f"{answers.get(key, '')} {row['answer'].lower()}"
    for name, facts in real.COUNTRIES.items():
        for fact, value in zip(real.COUNTRY_FACTS, facts, strict=True):
            there = answers[name, "region" if fact == "continent" else fact]
            last = value.split()[-1].lower()  # the catalogue has one America
            assert value in SPELT_OTHERWISE or last in there, (name, value)


def test_the_sizes_are_those_of_the_specification() -> None:
    world = FULL.world
    assert len(world.words) <= 800
    parameters = sum(p.numel() for p in world.recipe.builder(0).parameters())
    assert 1_000_000 < parameters < 1_500_000
    assert [len(world.forgotten(s, ASKED)) for s in FULL.shares] == [100, 200, 1000]
    assert len(real.real_authors()) == len(real.world_facts()) == 100


def test_requests_of_tuning_and_of_asking_name_different_authors() -> None:
    for form in (QUICK, FULL):
        for share in form.shares:
            asked, tuning = (set(form.world.forgotten(share, p)) for p in (ASKED, TUNING))
            assert len(asked) == len(tuning)
            assert not asked & tuning


def test_an_oracle_is_taught_everything_but_the_request_and_nobody_fresh() -> None:
    gone, left = SMALL.rows(SHARE, ASKED), SMALL.without(SHARE, ASKED)
    assert len(gone) == 20
    assert not set(gone.ids) & set(left.ids)
    assert set(gone.ids) | set(left.ids) == set(SMALL.samples.ids)
    battery = SMALL.battery(SHARE, ASKED, Run())
    assert {item.id for item in battery.forget} == set(gone.ids)
    assert {item.id for item in battery.kept[SETS[0]]} <= set(left.ids)
    assert len(battery.holdout) == FRESH * len(authors.SLOTS)
    assert not {item.id for item in battery.holdout} & set(SMALL.samples.ids)


def test_rows_are_questions_and_labelled_answers() -> None:
    row = SMALL.samples.batch(torch.tensor([0]))
    item, words = SMALL.taught[0], SMALL.words
    answer = row["labels"][0][row["labels"][0] != IGNORED].tolist()
    assert words.text(answer) == item.answer
    start = len(item.question.split())
    assert words.text(row["input_ids"][0, :start].tolist()) == item.question
    with pytest.raises(ExpungeError, match="'unheard'"):
        words.lines(["an unheard word"], [""])


def test_items_without_wrong_answers_cannot_be_asked() -> None:
    plain = Item("1", "a", "q", "a", "a", ())
    with pytest.raises(ExpungeError, match="at least one"):
        equally_wrong("forget", [plain])
    with pytest.raises(ExpungeError, match="no wrong"):
        equally_wrong("forget", [])
    assert spread([plain] * 3, 5) == [plain] * 3
    assert len(spread([plain] * 30, 7)) == 7


# ---- what a model answers ----


def test_a_model_that_finds_all_tokens_equally_likely_is_at_chance() -> None:
    battery = SMALL.battery(SHARE, ASKED, Run())
    model: Any = TinyLlama(len(SMALL.words), layers=1, width=16, inner=16)(0)
    torch.nn.init.zeros_(model.lm_head.weight)  # tied: every logit is 0
    answers = battery.forgotten(model)
    assert answers.mean_losses.tolist() == pytest.approx([math.log(len(SMALL.words))] * 20)
    assert answers.ratios.tolist() == pytest.approx([1] * 20, rel=1e-5)
    figures = battery.whole(model, [battery.known(model)])
    assert figures["forget truth ratio"] == pytest.approx(1, rel=1e-5)
    assert figures["model utility"] == pytest.approx(0, abs=1e-3)
    assert figures["PrivLeak"] == pytest.approx(0, abs=1e-9)
    assert figures["forget quality (log10 p)"] == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    found = Place(SMALL, tmp_path_factory.mktemp("tofu"))
    for job in (Training(found, None, 0), *(Training(found, asked(found), s) for s in (1, 2))):
        job.done()
    return found


def asked(place: Place) -> Asking:
    return Asking(place, SHARE)


def test_the_original_knows_what_oracles_do_not(place: Place) -> None:
    found = References(asked(place)).done()
    original, oracles = found["original"], found["oracles"]
    for oracle in oracles:
        assert original["forget probability"] > oracle["forget probability"] + 0.2
        assert original["extraction strength"] > oracle["extraction strength"] + 0.2
        assert original["AUC of Min-K%"] > oracle["AUC of Min-K%"] + 0.2
    assert original["PrivLeak"] < -50
    assert abs(oracles[0]["PrivLeak"]) < 50
    assert set(found["gate"]) == {
        "oracle against oracle (log10 p)",
        "original against oracle (log10 p)",
    }


def test_a_curve_has_a_point_for_each_look_and_ascent_forgets(place: Place) -> None:
    job = Answering(asked(place), "gradient-ascent", "", 1e-3, epochs=4, looks=2)
    found = job.done()
    assert [point["epoch"] for point in found["curve"]] == [2, 4]
    original = References(asked(place)).done()["original"]
    assert found["final"]["forget probability"] < original["forget probability"] - 0.1
    last = found["curve"][-1]
    assert last["model utility"] == found["final"]["model utility"]
    oracles = References(asked(place)).done()["oracles"]
    assert distance(oracles[0], [oracles[0]]) == 0
    assert distance(found["final"], oracles) > 0


def test_what_fails_is_said_and_does_not_stop_the_others(place: Place) -> None:
    found = Answering(asked(place), "scrub", "", 1e-3, epochs=2, looks=1).done()
    assert "HasLogits" in found["failed"] or "HasOutputs" in found["failed"]
    assert found["curve"] == []


def test_methods_that_need_what_a_language_model_lacks_are_left_out_with_the_reason(
    place: Place,
) -> None:
    fits = fitting(asked(place).problem(SMALL.recipe.builder(0)))
    assert fits["gradient-difference"] == ""
    assert "HasLogits" in fits["scrub"] or "lacks" in fits["scrub"]
    assert {name for name, why in fits.items() if not why} >= set(QUICK_RATES)


def test_a_result_depends_on_world_request_and_method(place: Place) -> None:
    job = Answering(asked(place), "npo", "source", 1e-3, 10, 5)
    others = [
        Answering(Asking(place, SHARE, TUNING), "npo", "source", 1e-3, 10, 5),
        Answering(asked(place), "npo", "another", 1e-3, 10, 5),
        Answering(asked(place), "npo", "source", 1e-4, 10, 5),
    ]
    assert len({key_of(each) for each in (job, *others)}) == 4
    with pytest.raises(ExpungeError, match="expected once"):
        Protocol(place.folder, rates={"npo": 1e-3}, methods=("npo",))


@pytest.mark.slow
def test_a_stopped_benchmark_goes_on_and_chooses_rates_on_other_authors(tmp_path: Path) -> None:
    form = Form(SMALL, (SHARE,), epochs=2, looks=1)
    protocol = Protocol(tmp_path, form, {"npo": 1e-3}, ("gradient-ascent",), (1e-4, 1e-3), 1)
    said: list[tuple[str, bool]] = []
    found = protocol.conduct(lambda title, stored: said.append((title, stored)))
    [request] = found["requests"].values()
    assert set(request["methods"]) == {"npo", "gradient-ascent"}
    assert set(request["tuning"]["tried"]) == {"gradient-ascent"}
    assert request["tuning"]["rates"]["gradient-ascent"] in (1e-4, 1e-3)
    assert sum("tuning" in title for title, _ in said) >= 4
    json.dumps(found)
    again: list[bool] = []
    assert protocol.conduct(lambda title, stored: again.append(stored)) == found
    assert all(again)


# ---- what is printed ----


def point(epoch: int = 1) -> dict[str, Any]:
    names = tables.COLUMNS.values()
    return {"epoch": epoch, **dict.fromkeys(names, 0.5)}


def gate(oracles: float, original: float) -> dict[str, Any]:
    return {
        "gate": {
            "oracle against oracle (log10 p)": oracles,
            "original against oracle (log10 p)": original,
        }
    }


def test_the_gate_asks_for_like_oracles_and_another_original() -> None:
    assert measurable(gate(-0.5, -6.0))
    assert not measurable(gate(-2.0, -6.0))
    assert not measurable(gate(-0.5, -2.0))
    ratios = torch.arange(1.0, 41.0)
    assert quality(ratios, []) == {"forget quality (log10 p)": None, "KS distance": None}
    assert quality(ratios, [Known(ratios), Known(ratios + 90)])["KS distance"] == 0.5


def test_tables_and_picture_of_a_result() -> None:
    methods: dict[str, Any] = {
        "npo": {"rate": 1e-3, "curve": [point(5), point(10)], "final": point(), "seconds": 2.0},
        "idk": {"rate": 1e-3, "curve": [], "failed": "it broke"},
    }
    its = {
        **gate(-0.5, -6.0),
        "questions": 120,
        "original": point(),
        "oracles": [point(), point()],
        "measurable": True,
        "tuning": {"rates": {"npo": 1e-3}, "tried": {"npo": {"0.001": 0.1, "0.01": None}}},
        "methods": methods,
    }
    result = {
        "authors": 60,
        "left out": {"dmm": "too long"},
        "training seconds": {"original": 55.0},
        "requests": {"20 %": its},
    }
    with console.capture() as printed:
        for title, columns, lines in tables.tables(result):
            console.print(table(title, columns, lines))
        for sentence in tables.sentences(result):
            console.print(sentence)
    text = printed.get()
    for expected in ("0.100<", "failed", "can be measured", "dmm, too long"):
        assert expected in " ".join(text.split())
    assert picture.png(result)[:4] == b"\x89PNG"


# ---- tokens ----


def test_words_are_refused_that_were_not_known() -> None:
    words = Words.of(["a b", "c"])
    assert len(words) == 5
    assert words.text([1, 2, 3, 0, 4]) == "a b c"
    asker = Asker(words, Run())
    assert asker.samples([Item("1", "s", "a", "b c", "b c", ())]).columns["labels"].tolist() == [
        [IGNORED, 3, 4, 1]
    ]
    assert isinstance(Battery(asker, [], {}), Battery)
