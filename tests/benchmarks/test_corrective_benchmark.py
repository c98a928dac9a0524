"""Facts about corrective unlearning on digits, and about how the benchmark reads its results."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from expunge import registry
from expunge.benchmarks.corrective import picture, protocol, tables, work
from expunge.benchmarks.corrective.findings import findings
from expunge.benchmarks.corrective.forms import (
    LEFT_OUT,
    OF_THE_PAPER,
    RETRAIN,
    SSD_FIXED,
    form,
    forms,
)
from expunge.benchmarks.corrective.manipulations import PatchTrigger
from expunge.benchmarks.corrective.protocol import Part, Protocol
from expunge.benchmarks.corrective.work import (
    Correction,
    References,
    Setting,
    _Correcting,
    stage,
)
from expunge.benchmarks.jobs import Job, Told, _done, key_of
from expunge.cli.output import console, table
from expunge.errors import ExpungeError
from expunge.methods.random_label import RandomLabel
from expunge.recipe import Role

PATCH = PatchTrigger(side=2)


def corrected(seed: int, share: float, name: str) -> Mapping[str, float]:
    """What a method gives as it comes, without tuning."""
    figures: Mapping[str, float] = Correction(
        Setting("digits", PATCH, seed), share, name, 1
    ).done()["as it comes"]
    return figures


def test_retraining_learns_the_hidden_half_again_and_dampening_does_not() -> None:
    references = References(Setting("digits", PATCH, 0)).done()
    original, clean = references["original"], references["clean"]
    assert references["manipulated"] == 86
    assert references["effective"] < 86
    assert original["attacked"] > 0.95
    assert original["corrected"] < 0.1
    assert clean["attacked"] < 0.1
    assert clean["corrected"] > 0.8
    half = corrected(0, 0.5, RETRAIN)
    assert half["corrected"] < 0.1
    dampened = corrected(0, 0.5, SSD_FIXED)
    assert dampened["corrected"] > half["corrected"] + 0.4
    assert dampened["attacked"] < original["attacked"]


@pytest.mark.slow
def test_the_small_check_of_the_card_over_five_seeds() -> None:
    before, retrained, dampened, kept = [], [], [], []
    for seed in range(5):
        original = References(Setting("digits", PATCH, seed)).done()["original"]
        assert original["attacked"] > 0.95
        assert corrected(seed, 1.0, RETRAIN)["corrected"] > 0.8
        before.append(original["retained"])
        for share in (0.5, 0.8):
            its, mine = corrected(seed, share, RETRAIN), corrected(seed, share, SSD_FIXED)
            if share == 0.5:
                assert its["corrected"] < 0.1
            retrained.append(its["corrected"])
            dampened.append(mine["corrected"])
            kept.append(mine["retained"])
    assert fmean(dampened) - fmean(retrained) > 0.4
    assert fmean(before) - fmean(kept) < 0.03


def test_what_a_method_is_shown_holds_no_clean_label_and_ssd_prepares_on_what_is_left() -> None:
    here = stage(Setting("digits", PATCH, 0))
    request = here.request(0.1)
    problem = here.deployment().problem(request, form(SSD_FIXED).made({}))
    forget, retain = problem.data[Role.FORGET], problem.data[Role.RETAIN]
    assert len(forget) == 9
    assert len(retain) == len(here.rows.samples) - 9
    labels = [int(forget.batch(place)["label"]) for place in torch.arange(9)]
    assert labels == [0] * 9
    seen = {
        name: _Correcting(Correction(here.setting, 0.1, name, 1))._problem(form(name).made({})).data
        for name in (SSD_FIXED, "ssd, all rows")
    }
    for data in seen.values():
        assert data[Role.RETAIN].ids == retain.ids
    assert seen[SSD_FIXED][Role.TRAIN].ids == retain.ids
    assert seen["ssd, all rows"][Role.TRAIN].ids == here.rows.samples.ids


def test_every_registered_method_has_a_form_and_the_papers_come_first() -> None:
    used = {one.registered for one in forms().values()}
    assert used == set(registry.names("methods")) - set(LEFT_OUT)
    assert list(forms())[: len(OF_THE_PAPER)] == [one.name for one in OF_THE_PAPER]
    with pytest.raises(ExpungeError, match="no method 'ssd9' here"):
        form("ssd9")


def test_blocks_and_epochs_of_a_form_are_those_of_the_model() -> None:
    deep, flat = form("eu-k").on(3, 20), form("eu-k").on(2, 5)
    assert deep.space().ranges["k"].holds(2)
    assert not deep.space().ranges["k"].holds(3)  # all blocks would be retraining
    assert "k" not in flat.space().ranges
    assert vars(flat.made({}))["k"] == 1
    assert vars(flat.made({}))["epochs"] == 5
    assert form("cf-k").on(3, 20).space().ranges["k"].holds(3)


def test_scrub_of_the_paper_maximises_what_it_minimises() -> None:
    made: Any = form("scrub").made({"alpha": 0.05})
    assert made.alpha == made.forget_divergence == 0.05
    assert made.forget_loss == 1
    assert not made.retain_first


PARTS = (Part("digits", PATCH, (0.5,), (RETRAIN, SSD_FIXED, "lfssd", "certified-removal")),)


def in_this_process(
    jobs: Sequence[Job], folder: Path, processes: int, told: Told
) -> dict[Job, Mapping[str, Any]]:
    """The jobs in this process: another one would import torch for seconds first."""
    return {job: _done(job) for job in jobs}


def test_tables_findings_and_picture_follow_from_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "by_job", in_this_process)
    result = Protocol(tmp_path, PARTS, seeds=1, trials=2).conduct(lambda title, stored: None)
    [panel] = result["panels"]
    assert "needs the training record" in panel["methods"]["certified-removal"]["0.5"]["unfit"]
    cell = panel["methods"]["lfssd"]["0.5"]
    assert cell["as it comes"]["corrected"]["sd"] is None  # one seed
    allowed = panel["original"]["retained"]["mean"] - result["tolerance"]
    assert cell["matched"]["retained"]["mean"] > allowed - 0.02  # validation and test rows differ
    useless = next(f for f in result["findings"] if f["expected"].startswith("the original"))
    assert useless["held"]
    shown = []
    for title, columns, rows in tables.tables(result):
        with console.capture() as printed:
            console.print(table(title, columns, rows), width=200)
        shown.append(printed.get())
    assert any("retrain (baseline)" in text and "REFERENCE: clean data" in text for text in shown)
    assert any("certified-removal is not shown at 50%" in note for note in tables.notes(result))
    assert picture.png(result).startswith(b"\x89PNG")


def test_presets_stand_beside_retraining_without_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [name for part in protocol.presets() for name in part.forms]
    assert {"retrain", "ssd, preset", "salun, preset", "scrub, preset"} <= set(every)
    assert not set(every) - {RETRAIN} & {name for part in protocol.full() for name in part.forms}
    monkeypatch.setattr(protocol, "by_job", in_this_process)
    parts = (Part("digits", PATCH, (0.5,), (RETRAIN, "random-label, preset")),)
    result = Protocol(tmp_path, parts, seeds=1, trials=0).conduct(lambda title, stored: None)
    cell = result["panels"][0]["methods"]["random-label, preset"]["0.5"]
    assert cell["parameters"][0]["learning_rate"] != RandomLabel().learning_rate
    assert cell["as it comes"]["retained"]["mean"] > 0.85
    assert not result["findings"]
    assert "nothing is tuned" in " ".join(tables.notes(result))
    assert len(tables.tables(result)) == len(tables.SHOWN)
    with pytest.raises(ExpungeError, match="0 trials"):
        Protocol(tmp_path, PARTS, seeds=1, trials=0)


def test_a_result_is_found_again_for_the_same_rows_method_share_and_trials_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = Correction(Setting("digits", PATCH, 0), 0.5, "negation", 1)
    others = [
        replace(job, trials=2),
        replace(job, share=0.6),
        replace(job, form="salun"),
        replace(job, setting=Setting("digits", PATCH, 1)),
        replace(job, setting=Setting("digits", PatchTrigger(side=3), 0)),
    ]
    assert key_of(replace(job)) == key_of(job)
    assert len({key_of(one) for one in [job, *others]}) == 6
    key = key_of(job)
    for name, value in (("TOLERANCE", 0.1), ("EPOCHS", 1.0)):
        with monkeypatch.context() as patch:
            patch.setattr(work, name, value)
            assert key_of(job) != key
    titles = [one.title for one in Protocol(Path(), PARTS, seeds=2).jobs()]
    assert len(titles) == len(set(titles)) == 2 * (1 + len(PARTS[0].forms))


def panel(
    manipulation: str = "interclass confusion", **methods: Mapping[float, tuple[float, float]]
) -> dict[str, Any]:
    """A panel of corrected and retained means, the same for both variants."""

    def spread(corrected: float, retained: float, attacked: float = 0.0) -> dict[str, Any]:
        values = {"corrected": corrected, "retained": retained, "attacked": attacked}
        return {name: {"mean": value, "sd": 0.0} for name, value in values.items()}

    return {
        "world": "w",
        "manipulation": manipulation,
        "shares": sorted({share for cells in methods.values() for share in cells}),
        "original": spread(0.6, 0.9),
        "clean": spread(0.9, 0.9),
        "methods": {
            name: {
                f"{share:g}": {v: spread(*means) for v in protocol.VARIANTS}
                for share, means in cells.items()
            }
            for name, cells in methods.items()
        },
    }


def test_methods_that_are_named_are_run_alone() -> None:
    quick, full = protocol.quick(), protocol.full()
    assert {n for part in protocol.only(quick, ["scrub"]) for n in part.forms} == {"scrub"}
    assert len(protocol.only(quick, ["scrub"])) == len(quick)
    found = protocol.only(full, ["unsir", "retrain"])
    assert {n for part in found for n in part.forms} == {"unsir", RETRAIN}
    ssd = {n for part in protocol.only(full, ["ssd"]) for n in part.forms}
    assert ssd == {"ssd", SSD_FIXED, "ssd, all rows"}  # every form of it
    assert {n for part in protocol.only(full, [SSD_FIXED]) for n in part.forms} == {SSD_FIXED}
    shipped = protocol.only(protocol.presets(), ["unsir"])
    assert {n for part in shipped for n in part.forms} == {"unsir, preset"}
    with pytest.raises(ExpungeError, match="'unsir' is not among the methods of this form"):
        protocol.only(quick, ["unsir"])


def test_what_no_method_of_the_paper_does_is_found_where_all_were_measured() -> None:
    rows = {name: {0.1: (0.3, 0.9)} for name in ("retrain", "eu-k", "cf-k", "scrub")}

    def found(**methods: Mapping[float, tuple[float, float]]) -> list[Mapping[str, Any]]:
        every = findings(panel("patch trigger", **methods))
        return [one for one in every if "no method of the paper" in one["expected"]]

    assert not found(**rows)
    [one] = found(**rows, **{"bad-teacher": {0.1: (0.4, 0.9)}})
    assert one["held"] and "40 (bad-teacher)" in one["measured"]


def test_a_finding_turns_with_the_figures() -> None:
    def held(best: float) -> bool:
        found = findings(panel(retrain={0.1: (0.7, 0.9)}, scrub={0.1: (best, 0.9)}))
        [one] = [f for f in found if "as it comes" in f["expected"]]
        return bool(one["held"])

    assert held(0.79)
    assert not held(0.81)


def test_the_lead_of_ssd_names_the_shares_at_which_it_was_measured() -> None:
    retrain = dict.fromkeys((0.1, 0.5, 0.8), (0.05, 0.9))
    ssd = {0.5: (0.9, 0.9)}  # at 80 % it failed
    found = findings(panel("patch trigger", retrain=retrain, ssd=ssd))
    [one] = [f for f in found if f["expected"].startswith("ssd as it comes leads")]
    assert "at 50% identified" in one["expected"]
    assert one["measured"].startswith("leads by 85,")


def test_a_model_that_lost_a_tenth_is_damaged_and_one_that_lost_half_collapsed() -> None:
    def result(retained: float) -> dict[str, Any]:
        figures = dict.fromkeys(protocol.MEASURES, retained)
        both = dict.fromkeys(protocol.VARIANTS, figures)
        rest = {
            "factor": 1.0,
            "processor seconds": 0.0,
            "parameters": {},
            "trials": [],
            "warnings": [],
        }
        return {**both, **rest}

    cell = protocol._cell([result(0.3), result(0.8), result(0.9)], [0.9, 0.9, 0.9])
    assert (cell["collapsed"], cell["damaged"]) == (1, 2)
