"""The benchmark of sparsity: what it compares, how it decides, and that its jobs keep the masks."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.classification.rows import gap
from expunge.benchmarks.jobs import key_of
from expunge.benchmarks.sparsity import presets, tables, work
from expunge.benchmarks.sparsity.protocol import FULL, QUICK, Protocol
from expunge.benchmarks.sparsity.verdict import verdict
from expunge.benchmarks.sparsity.work import (
    ACCURACIES,
    AVERAGED,
    DENSE,
    PRUNERS,
    ROOMS,
    SUBJECTS,
    Answering,
    Asking,
    Place,
    Reading,
    Training,
    Tuning,
)
from expunge.changes.weights import digest_of, parameters_of
from expunge.cli.output import console, table
from expunge.errors import ExpungeError
from expunge.learning.supervised.masks import masks_of, sparsity_of, strays
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.presets import AtPreset
from expunge.methods.prune_then_unlearn import PruneThenUnlearn
from expunge.methods.random_label import RandomLabel

FIGURES: dict[str, float | None] = {"UA": 0.5, "RA": 1.0, "TA": 0.9, "SVC-MIA": 0.2}


def place(folder: Path, pruner: str = "one-shot 80 %") -> Place:
    return Place("digits", work.room("digits").digest, folder, pruner)


# ---- what the gap and the verdict are ----


def test_the_gap_is_the_mean_distance_to_the_mean_oracle() -> None:
    oracles: list[dict[str, float | None]] = [
        {**FIGURES, "UA": 1.0},
        {**FIGURES, "UA": 0.8, "TA": 0.7},
    ]
    assert gap(FIGURES, oracles, AVERAGED) == pytest.approx((0.4 + 0.1) / 4)
    assert gap(FIGURES, [FIGURES], AVERAGED) == 0
    assert gap(FIGURES, [{**FIGURES, "SVC-MIA": 1.0}], ACCURACIES) == 0


def results(sparse: list[float | None], pruner: str = "one-shot 95 %") -> dict[str, Any]:
    dense = {"methods": {"fine-tune": {"gap": [0.4, 0.5, 0.6]}}}
    return {
        "class": {"pruners": {DENSE: dense, pruner: {"methods": {"fine-tune": {"gap": sparse}}}}}
    }


@pytest.mark.parametrize(
    ("gaps", "said", "way"),
    [
        ([0.3, 0.4, 0.5], "reproduced", "shrinks"),
        ([0.3, 0.4, 0.7], "not reproduced", "unclear"),
        ([0.5, 0.6, 0.7], "contradicted", "grows"),
        ([0.4, 0.4, 0.5], "not reproduced", "unclear"),
    ],
)
def test_a_gap_shrinks_or_grows_where_it_does_so_in_every_seed(
    gaps: list[float | None], said: str, way: str
) -> None:
    found = verdict(results(gaps))
    assert found["verdict"] == said
    assert [cell["way"] for cell in found["cells"]] == [way]


def test_the_claim_is_judged_on_the_sparsest_models_and_failures_are_no_part_of_it() -> None:
    failed = verdict(results([0.1, None, 0.1]))
    assert (failed["cells"], failed["verdict"]) == ([], "not judged")
    found = verdict(results([0.1, 0.1, 0.1], "one-shot 80 %"))
    assert found["by pruner"] == {"one-shot 80 %": {"shrinks": 1, "unclear": 0, "grows": 0}}
    assert (found["verdict"], found["shrinks"]) == ("not judged", 0)


def test_every_method_has_equally_many_strengths_within_what_it_accepts() -> None:
    training = place(Path()).training
    assert {len(each.strengths) for each in SUBJECTS.values()} == {6}
    for each in SUBJECTS.values():
        assert list(each.strengths) == sorted(each.strengths)
        methods = [each.at(strength, training) for strength in each.strengths]
        assert [getattr(method, each.field) for method in methods] == list(each.strengths)
    assert SUBJECTS["fine-tune"].at(0.1, replace(training, epochs=30)).epochs == 10  # type: ignore[attr-defined]
    for form in (QUICK, FULL):
        assert DENSE in form.pruners
        assert form.world in ROOMS
        assert set(form.pruners) <= set(PRUNERS)


# ---- the jobs ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models of this file are kept: a base and two oracles."""
    found = tmp_path_factory.mktemp("sparsity")
    for kind in (None, "class"):
        Training(place(found), kind, 0).done()
    Training(place(found), "class", 1).done()
    return found


def test_the_oracle_is_retrained_under_the_masks_of_the_base_of_its_seed(folder: Path) -> None:
    base, oracle = (Training(place(folder), kind, 0).trained() for kind in (None, "class"))
    masks = masks_of(base.record)
    assert sparsity_of(masks) == pytest.approx(0.8, abs=1e-3)
    assert strays(base.model, masks) == strays(oracle.model, masks) == 0
    assert digest_of(base.model) != digest_of(oracle.model)
    kept = masks_of(oracle.record)
    assert all(torch.equal(kept[name], mask) for name, mask in masks.items())
    asked = Asking(place(folder), "class", (0,))
    assert asked.read(oracle.model, 0, "test")["UA"] == 1  # it never saw a three
    assert (asked.read(base.model, 0, "test")["UA"] or 0) < 0.2


def test_a_damaged_model_is_made_again_with_the_same_bits(folder: Path) -> None:
    training = Training(place(folder), None, 0)
    before = digest_of(training.trained().model)
    path = folder / "models" / f"{key_of(training)}.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert digest_of(training.trained().model) == before


def test_methods_answer_within_the_masks(folder: Path) -> None:
    base = Training(place(folder), None, 0).trained()
    after = Asking(place(folder), "class", (0,)).answered(GradientAscent(1, 1e-3), 0)
    assert strays(after, masks_of(base.record)) == 0
    assert any(
        not torch.equal(weight, parameters_of(base.model)[name])
        for name, weight in parameters_of(after).items()
    )
    assert isinstance(place(folder).under(GradientAscent()), PruneThenUnlearn)
    assert place(folder, DENSE).under(GradientAscent()) == GradientAscent()


def test_the_strength_with_the_smallest_gap_is_chosen_and_failures_are_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = replace(SUBJECTS["gradient-ascent"], strengths=(-1.0, 1e-5, 1e-3))
    monkeypatch.setitem(SUBJECTS, "gradient-ascent", subject)
    tuning = Tuning(Asking(place(folder), "class", (0, 1)), "gradient-ascent", "source")
    found = tuning.done()
    failed, *sound = found["tried"]
    assert "learning rate" in failed["failed"]
    assert found["strength"] == min(sound, key=lambda trial: trial["gap"])["strength"]
    assert len({trial["gap"] for trial in sound}) == 2
    answer = Answering(tuning.asking, "gradient-ascent", "source", -1.0, 0).done()
    assert "learning rate" in answer["failed"]
    figures = Answering(tuning.asking, "gradient-ascent", "source", 1e-5, 0).done()["figures"]
    assert set(figures) == set(AVERAGED)
    read = Reading(Asking(place(folder), "class", (0,))).done()
    assert json.loads(json.dumps(read)) == read
    keys = {
        key_of(Answering(tuning.asking, "gradient-ascent", source, strength, seed))
        for source in ("source", "other")
        for strength in (1e-5, 1e-3)
        for seed in (0, 1)
    }
    assert len(keys) == 8


def test_a_result_belongs_to_the_rows_of_its_request_and_to_how_many_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asking, before = Asking(place(Path()), "class", (0, 1)), work.room("digits")

    def keys() -> dict[str, str]:
        jobs = (
            Training(asking.place, "class", 0),
            Reading(asking),
            Tuning(asking, "fine-tune", "source"),
            Answering(asking, "fine-tune", "source", 1e-3, 0),
        )
        return {type(job).__name__: key_of(job) for job in jobs}

    def changed() -> set[str]:
        now = keys()
        return {name for name, key in first.items() if now[name] != key}

    first = keys()
    others = replace(before, requests={"class": before.request("random 10 %")})
    for attribute, value, names in (
        ("room", lambda name: others, set(first)),
        ("MOST", {"validation": 1, "test": 1}, set(first) - {"Training"}),
        ("EPOCHS_SHARE", 1.0, {"Tuning", "Answering"}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(work, attribute, value)
            assert changed() == names
    assert changed() == set()


# ---- bad input, and what is printed ----


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"world": "moon"}, "'moon' is no world here.*digits"),
        ({"pruners": ("dense", "by hand")}, "'by hand' is no pruner"),
        ({"methods": ("magic",)}, "'magic' is no method"),
        ({"pruners": ("one-shot 80 %",)}, "dense model among them"),
        ({"seeds": 1}, "1 seeds were given"),
        ({"pruners": ("dense", "one-shot 80 %", "one-shot 80 %")}, "'one-shot 80 %' was given 2"),
        ({"methods": ("influence", "influence")}, "method 'influence' was given 2 times"),
    ],
)
def test_what_cannot_be_compared_is_said(given: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ExpungeError, match=sentence):
        Protocol(Path(), **given)


def conducted(gaps: list[float | None]) -> dict[str, Any]:
    its = {
        "sparsity": 0.0,
        "originals": [FIGURES] * 3,
        "oracles": [FIGURES] * 3,
        "gap among oracles": [0.01, 0.02, 0.03],
        "gap of the originals": [0.4, 0.4, 0.4],
        "methods": {
            "fine-tune": {
                "strength": 1e-3,
                "tried": [
                    {"strength": 1e-4, "gap": 0.3},
                    {"strength": 1e-3, "gap": 0.2},
                    {"strength": 1.0, "failed": "why"},
                ],
                "figures": [FIGURES, FIGURES, None],
                "gap": gaps,
                "gap without the attack": gaps,
                "gap to the dense oracles": gaps,
                "gap at the dense strength": gaps,
            }
        },
    }
    requests = {"class": {"forget rows": 9, "pruners": {DENSE: its, "one-shot 95 %": its}}}
    found = dict.fromkeys(("verdict", "verdict without the attack"), verdict(requests))
    return {"world": "digits", "seeds": 3, "requests": requests, **found}


def test_the_tables_fit_a_terminal_and_failures_are_named() -> None:
    result = conducted([0.1, 0.2, None])
    shown = ""
    for title, columns, rows in tables.tables(result):
        with console.capture() as captured:
            console.print(table(title, columns, rows), width=80)
        shown += captured.get()
        assert all(len(row) == len(columns) for row in rows)
    assert "…" not in shown  # nothing was cut
    assert "failed" in shown
    assert "2.0±1" in shown  # the gap among oracles, in points
    said = " ".join(tables.sentences(conducted([0.1, 0.2, 0.3])))
    assert "Expected: the gap to the sparse oracles shrinks" in said
    assert "Verdict: not reproduced. Of 1 pairs" in said
    unjudged = " ".join(tables.sentences(conducted([0.1, 0.2, None])))
    assert "Verdict: not judged. Nothing was measured on the models" in unjudged


def test_a_strength_at_the_edge_of_what_was_tried_is_marked_in_every_table() -> None:
    result = conducted([0.1, 0.2, 0.3])
    pruners = result["requests"]["class"]["pruners"]
    its = pruners["one-shot 95 %"] = copy.deepcopy(pruners["one-shot 95 %"])
    its["methods"]["fine-tune"]["strength"] = 1e-4
    for title, _, rows in tables.tables(result):
        of_method = [row[-1] for row in rows]
        if "by strength" in title:
            assert [row[1:] for row in rows] == [
                ["30.0", "20.0*", "failed"],
                ["30.0*", "20.0", "failed"],
            ]
        elif "gap" in title:
            edge = "" if "at the strength of the dense model" in title else "<"
            assert of_method == ["20.0±10", f"20.0±10{edge}"]
    its["methods"]["fine-tune"]["strength"] = 1.0
    [first, *_] = tables.tables(result)
    assert first[2][1][-1] == "20.0±10>"


# ---- presets ----


def test_presets_are_those_of_methods_for_classifiers_that_read_no_record() -> None:
    named = presets.methods()
    assert {"salun", "scrub", "ssd", "unsir", "l1-sparse", *SUBJECTS} <= set(named)
    assert not {"retrain", "sisa", "prune-then-unlearn", "npo", "blindspot"} & set(named)
    with pytest.raises(ExpungeError, match="'retrain' is no method with a preset"):
        presets.Presets(Path(), methods=("retrain",))


def test_a_preset_answers_within_the_masks_and_a_refusal_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(place(folder), "class", (0, 1))
    base = Training(place(folder), None, 0).trained()
    model = asking.answered(AtPreset.of(RandomLabel()), 0)
    assert strays(model, masks_of(base.record)) == 0
    found = presets.Answering(asking, "random-label", "source", 0).done()["figures"]
    assert found == asking.read(model, 0, "test")
    assert found["UA"] > 0.9
    refused = ExpungeError("no rate fits")

    def refuse(*given: object) -> None:
        raise refused

    monkeypatch.setattr(RandomLabel, "for_problem", refuse)
    failed = presets.Answering(asking, "random-label", "source", 0).done()
    assert "no rate fits" in failed["failed"]


def test_what_presets_keep_is_told_of_the_worst_seed() -> None:
    its = presets._found(
        {"oracles": [FIGURES] * 2, "originals": [FIGURES] * 2},
        {
            "kept": [{"figures": FIGURES}, {"figures": {**FIGURES, "RA": 0.95}}],
            "worn": [{"figures": FIGURES}, {"figures": {**FIGURES, "TA": 0.45}}],
            "out": [{"figures": FIGURES}, {"failed": "why"}],
        },
    )
    requests = {"class": {"forget rows": 9, "pruners": {DENSE: its, "one-shot 80 %": its}}}
    result = {"world": "digits", "seeds": 2, "requests": requests}
    [(_, _, kept), (_, _, gaps)] = presets.tables(result)
    assert [row[1:] for row in kept] == [["95"] * 2, ["50*"] * 2, ["refused"] * 2]
    assert [row[0] for row in gaps[:2]] == ["oracles", "none"]
    assert [row[1] for row in gaps] == ["0.0±0", "0.0±0", "0.6±1", "5.6±8", "refused"]
    assert "dense, class, one-shot 80 %, class: out: why" in presets.sentences(result)


@pytest.mark.slow
def test_the_quick_form_on_two_models(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []
    protocol = Protocol(
        tmp_path,
        pruners=(DENSE, "one-shot 95 %"),
        methods=("gradient-ascent", "l1-sparse"),
        seeds=2,
    )
    first = protocol.conduct(lambda *what: told.append(what))
    assert not any(stored for _, stored in told)
    again = protocol.conduct(lambda *what: told.append(what))
    assert again == first
    assert all(stored for _, stored in told[len(told) // 2 :])
    assert json.loads(json.dumps(first)) == first
    pruned = first["requests"]["class"]["pruners"]["one-shot 95 %"]
    assert pruned["sparsity"] == pytest.approx(0.95, abs=1e-3)
    assert set(pruned["methods"]) == {"gradient-ascent"}  # l1-sparse prunes by itself
    assert len(pruned["methods"]["gradient-ascent"]["gap"]) == 2
