"""The identity benchmark: nobody in two sets, published folders as they are, methods as published.

The folders are laid out as MUFAC and MUCAC are, and hold drawings in the place of faces: a person
is an emoji, drawn in several styles, and the task is which style it is.
"""

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from expunge.benchmarks.identity import protocol, tables, work, worlds
from expunge.benchmarks.identity.folders import (
    ATTRIBUTES,
    FACES,
    HELD_OUT,
    IDENTITIES,
    MUFAC_SETS,
    Faces,
)
from expunge.benchmarks.identity.forms import (
    ADVANCED,
    COPIES,
    FINE_TUNE,
    MULTIPLES,
    NEG_GRAD,
    NOISE_ROWS,
    ORACLE,
    ORIGINAL,
    PlainSgd,
    form,
    forms,
)
from expunge.benchmarks.identity.people import (
    AS_PUBLISHED,
    AT_A_PERSON,
    FirstRows,
    People,
    WholePersons,
    drawn,
)
from expunge.benchmarks.identity.pixels import PixelSamples
from expunge.benchmarks.identity.protocol import MODELS, PRESET, TUNED, Protocol
from expunge.benchmarks.identity.protocol import PUBLISHED as WAY
from expunge.benchmarks.identity.verdict import verdict
from expunge.benchmarks.identity.worlds import DRAWN, WORLDS, Source, World, world
from expunge.benchmarks.jobs import key_of
from expunge.changes.history import History
from expunge.changes.weights import parameters_of
from expunge.cli.main import app
from expunge.data import catalogue, emoji_grid
from expunge.data.samples import TensorSamples
from expunge.descent.forget_terms import Ascent
from expunge.descent.optimisers import SGD, AdamW, Drops
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.methods.protocol import unlearn
from expunge.methods.scrub import Scrub
from expunge.methods.unsir import Unsir
from expunge.models.mlp import Mlp
from expunge.models.resnet import ResNet18
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import NO_REQUEST, Rows
from expunge.run import Run

STYLES = ("noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "emojione")
SIDE = 16


@pytest.fixture(scope="module")
def persons() -> list[list[Any]]:
    """Pictures of 16 emoji in all five styles."""
    table = emoji_grid.load(None)
    drawings: dict[str, dict[str, int]] = {}
    for row, (concept, style) in enumerate(
        zip(table["subject"][:], table["style"][:], strict=True)
    ):
        drawings.setdefault(concept, {})[style] = row
    whole = [rows for rows in drawings.values() if set(STYLES) <= set(rows)][:16]
    return [[table[rows[style]]["image"] for style in STYLES] for rows in whole]


def faces_of(persons: list[list[Any]], numbers: range) -> list[tuple[int, int, Any]]:
    return [(n, k, picture) for n in numbers for k, picture in enumerate(persons[n])]


@pytest.fixture
def mufac(persons: list[list[Any]], tmp_path: Path) -> Path:
    """Ten families to train on, three of the test set, three unseen; a class a style."""
    folder = tmp_path / "mufac"
    parts = {"train": range(10), "test": range(10, 13), "unseen": range(13, 16)}
    for name, numbers in parts.items():
        file, pictures = MUFAC_SETS[name]
        (folder / pictures).mkdir(parents=True)
        with (folder / file).open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(["image_path", "age_class"])
            for number, k, picture in faces_of(persons, numbers):
                age = "abcde"[k]
                image = f"F{number + 1:04d}_AGE_D_18_{age}1.jpg"
                picture.convert("RGB").resize((128, 128)).save(folder / pictures / image)
                writer.writerow([image, age])
    return folder


@pytest.fixture
def mucac(persons: list[list[Any]], tmp_path: Path) -> Path:
    """Persons on all sides of the published numbers; one of those to be forgotten has one
    picture, and a drawing of Noto is what smiles."""
    folder = tmp_path / "mucac"
    (folder / FACES).mkdir(parents=True)
    numbers = [0, 3, 189, *range(190, 194), 1249, *range(1250, 1256), 4855, 5000]
    persons_of, smiles = [], []
    for (place, k, picture), name in zip(
        faces_of(persons, range(16)), map(str, range(80)), strict=True
    ):
        if numbers[place] == 1249 and k:
            continue
        picture.convert("RGB").save(folder / FACES / f"{name}.jpg")
        persons_of.append(f"{name}.jpg {numbers[place]}\n")
        smiles.append(f"{name}.jpg  1 {1 if STYLES[k].startswith('noto') else -1} -1\n")
    (folder / IDENTITIES).write_text("".join(persons_of))
    (folder / ATTRIBUTES).write_text(f"{len(smiles)}\nMale Smiling Young\n{''.join(smiles)}")
    return folder


def rows_of(*names: str, each: int = 3) -> TensorSamples:
    subjects = [name for name in names for _ in range(each)]
    ids = [f"{name}/{i}" for i, name in enumerate(subjects)]
    return TensorSamples(ids, subjects, {"label": torch.zeros(len(ids), dtype=torch.int64)})


# ---- who is where ----


def test_the_first_1500_rows_may_divide_a_person_and_ours_never_do() -> None:
    subjects = [f"F{i:04d}" for i in range(60) for _ in range(40)]
    published, ours = AS_PUBLISHED.forgotten(subjects), AT_A_PERSON.forgotten(subjects)
    assert published.tolist() == list(range(1_500))
    assert len(ours) == 1_480  # 37 families of 40
    train = TensorSamples([str(i) for i in range(len(subjects))], subjects, {})
    people = People(train, published, rows_of("t"), rows_of("u"), as_published=True)
    assert people.divided == ["F0037"]
    target = people.request.target
    assert isinstance(target, Rows)
    assert target.column == "id"
    assert target.rows(people.table).tolist() == published.tolist()
    whole = People(train, ours, rows_of("t"), rows_of("u"))
    assert whole.divided == []
    assert whole.request.target.kind == "subject"
    assert whole.request.target.rows(whole.table).tolist() == ours.tolist()
    with pytest.raises(ExpungeError, match=r"'F0037' is in the forget set and in the retain set"):
        People(train, published, rows_of("t"), rows_of("u"))


def test_rows_of_a_person_that_are_far_apart_leave_together() -> None:
    subjects = ["a", "b", "a", "c", "a", "b"]
    assert WholePersons(4).forgotten(subjects).tolist() == [0, 2, 4]
    assert WholePersons(1).forgotten(subjects).tolist() == [0, 2, 4]
    assert FirstRows(9).forgotten(subjects).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("published", [False, True])
def test_a_person_in_two_sets_is_refused(published: bool) -> None:
    train, first = rows_of("a", "b"), torch.arange(3)
    for test, unseen, validation, said in (
        ("a", "u", None, "'a' is in the forget set and in the test set"),
        ("t", "b", None, "'b' is in the retain set and in the unseen set"),
        ("t", "t", None, "'t' is in the test set and in the unseen set"),
        ("t", "u", "u", "'u' is in the validation set and in the unseen set"),
    ):
        held = None if validation is None else rows_of(validation)
        with pytest.raises(ExpungeError, match=said):
            People(train, first, rows_of(test), rows_of(unseen), held, published)


def test_a_person_with_one_record_cannot_be_forgotten_as_a_person() -> None:
    train = rows_of("a", "b").select(torch.tensor([0, 3, 4, 5]))
    with pytest.raises(ExpungeError, match=r"'a' is to be forgotten and has one record.*by its id"):
        People(train, torch.tensor([0]), rows_of("t"), rows_of("u"))
    found = People(train, torch.tensor([0]), rows_of("t"), rows_of("u"), as_published=True)
    assert found.single == ["a"]
    People(train, torch.tensor([1, 2, 3]), rows_of("t"), rows_of("u"))  # who stays may have one


def test_a_set_without_rows_is_refused() -> None:
    train = rows_of("a", "b")
    with pytest.raises(ExpungeError, match="The retain set has no row"):
        People(train, torch.arange(6), rows_of("t"), rows_of("u"))


def test_persons_are_drawn_alike_from_every_stratum_and_anew_by_draw() -> None:
    names = [f"{style}{i}" for style in "xy" for i in range(8)]
    samples = rows_of(*names)
    strata = [subject[0] for subject in samples.subjects]
    each = {"forget": 2, "retain": 3, "validation": 1, "test": 1, "unseen": 1}
    first, second = (drawn(samples, each, draw, strata) for draw in (0, 1))
    assert first.counts() == {name: [6 * n, 2 * n] for name, n in each.items()}
    for part in first.parts.values():
        kinds = [name[0] for name in set(part.subjects)]
        assert kinds.count("x") == kinds.count("y")
    again = drawn(samples, each, 0, strata)
    assert list(again.forget.ids) == list(first.forget.ids)
    assert set(second.forget.subjects) != set(first.forget.subjects)
    with pytest.raises(ExpungeError, match=r"there are 8 persons, and 9 are expected \(3 forget"):
        drawn(samples, {**each, "forget": 3}, 0, strata)


# ---- the published folders ----


def test_mufac_is_read_as_published(mufac: Path, tmp_path: Path) -> None:
    people = Faces(mufac, SIDE, FirstRows(12), tmp_path / "kept").mufac()
    assert people.counts() == {
        "forget": [12, 3],
        "retain": [38, 8],
        "test": [15, 3],
        "unseen": [15, 3],
    }
    assert people.divided == ["F0003"]
    # the paper's test set is what the files call val
    assert set(people.test.subjects) == {"F0011", "F0012", "F0013"}
    assert "val_images" in people.test.ids[0]
    batch = people.train.batch(torch.arange(5))
    assert batch["label"].tolist() == [0, 1, 2, 3, 4]
    assert batch["image"].shape == (5, 3, SIDE, SIDE)
    assert 0 <= float(batch["image"].min()) < float(batch["image"].max()) <= 1


def test_ours_cuts_at_a_family_and_holds_some_of_those_who_stay_out(
    mufac: Path, tmp_path: Path
) -> None:
    people = Faces(mufac, SIDE, WholePersons(12), tmp_path / "kept").mufac()
    assert set(people.forget.subjects) == {"F0001", "F0002"}
    assert people.counts()["validation"] == [10, 2]  # two at least, else the share held out
    assert HELD_OUT * 8 < 2
    assert people.divided == []


def test_pictures_are_read_once_and_again_when_they_change(mufac: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = Faces(mufac, SIDE, WholePersons(12), kept).mufac()
    files = {path.name for path in kept.iterdir()}
    assert len(files) == 3
    again = Faces(mufac, SIDE, WholePersons(12), kept).mufac()
    assert {path.name for path in kept.iterdir()} == files
    every = torch.arange(len(first.train))
    assert torch.equal(first.train.batch(every)["image"], again.train.batch(every)["image"])
    picture = mufac / "train_images" / "F0001_AGE_D_18_a1.jpg"
    picture.write_bytes((mufac / "train_images" / "F0002_AGE_D_18_b1.jpg").read_bytes())
    Faces(mufac, SIDE, WholePersons(12), kept).mufac()
    assert len(list(kept.iterdir())) == 4


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda f: (f / "custom_val_dataset.csv").unlink(),
            r"custom_val_dataset\.csv is not there",
        ),
        (
            lambda f: edited(f, "age_class", "age"),
            r"lacks the column 'age_class' and has image_pat",
        ),
        (lambda f: edited(f, ",c\n", ",z\n"), r"with the age class 'z'.*from a to h are expected"),
        (lambda f: edited(f, "F0002_", "anna_"), r"begins with the family"),
        (
            lambda f: (f / "train_images/F0004_AGE_D_18_b1.jpg").unlink(),
            r"lacks the picture 'F0004_AGE_D_18_b1\.jpg' that the table names",
        ),
        (
            lambda f: (f / "train_images/F0004_AGE_D_18_b1.jpg").write_text("no picture"),
            r"F0004_AGE_D_18_b1\.jpg cannot be read",
        ),
    ],
)
def test_a_spoilt_folder_is_refused_in_one_sentence(
    spoil: Callable[[Path], object], said: str, mufac: Path, tmp_path: Path
) -> None:
    spoil(mufac)
    with pytest.raises(ExpungeError, match=said):
        Faces(mufac, SIDE, WholePersons(12), tmp_path / "kept").mufac()


def edited(folder: Path, old: str, new: str) -> None:
    path = folder / "custom_train_dataset.csv"
    with path.open(newline="") as opened:
        text = opened.read().replace("\r\n", "\n")
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_family_with_one_picture_is_refused(mufac: Path, tmp_path: Path) -> None:
    path = mufac / "custom_train_dataset.csv"
    head, first, *rest = path.read_text().splitlines()
    left = [head, first, *(line for line in rest if not line.startswith("F0001"))]
    path.write_text("\n".join(left) + "\n")
    with pytest.raises(ExpungeError, match="'F0001' is to be forgotten and has one record"):
        Faces(mufac, SIDE, WholePersons(12), tmp_path / "kept").mufac()


def test_mucac_is_split_by_the_published_numbers(mucac: Path, tmp_path: Path) -> None:
    people = Faces(mucac, SIDE, AS_PUBLISHED, tmp_path / "kept").mucac("smiling")
    assert set(people.test.subjects) == {"person 0", "person 3", "person 189"}
    assert set(people.unseen.subjects) == {"person 4855", "person 5000"}
    wanted = {f"person {n}" for n in (190, 191, 192, 193, 1249)}
    assert set(people.forget.subjects) == wanted
    assert people.single == ["person 1249"]
    assert people.validation is None
    labels = people.test.batch(torch.arange(5))["label"]
    assert labels.tolist() == [1, 1, 0, 0, 0]


def test_ours_leaves_a_person_with_one_picture_where_it_is(mucac: Path, tmp_path: Path) -> None:
    people = Faces(mucac, SIDE, AT_A_PERSON, tmp_path / "kept").mucac("young")
    assert "person 1249" not in set(people.forget.subjects)
    assert people.single == []
    assert people.validation is not None
    label = people.train.batch(torch.arange(len(people.train)))["label"]
    assert label.tolist() == [0] * len(people.train)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (ATTRIBUTES, "Smiling", "Frowning", r"lacks the attribute 'Smiling'.*which has 3 names"),
        (ATTRIBUTES, "\n7.jpg  1 ", "\n7.jpg  ", r"begins with '7\.jpg' and holds 3 words"),
        (ATTRIBUTES, "\n7.jpg  1 ", "\n7a.jpg  1 ", r"names '7\.jpg', which .*does not"),
        (IDENTITIES, "\n7.jpg 3", "\n7.jpg three", r"has the line '7\.jpg three'"),
    ],
)
def test_spoilt_files_of_mucac_are_refused(
    file: str, old: str, new: str, said: str, mucac: Path, tmp_path: Path
) -> None:
    path = mucac / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ExpungeError, match=said):
        Faces(mucac, SIDE, AT_A_PERSON, tmp_path / "kept").mucac("smiling")


# ---- the methods ----


@pytest.fixture(scope="module")
def problem(persons: list[list[Any]]) -> Problem:
    """64 drawings to retain, 16 to forget; a small residual network."""
    pixels = torch.rand(80, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    flat = [picture.convert("RGB").resize((8, 8)) for person in persons for picture in person]
    for row, picture in enumerate(flat):
        pixels[row] = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    rows = TensorSamples(
        [str(i) for i in range(80)],
        [str(i // 5) for i in range(80)],
        {"image": pixels, "label": torch.arange(80) % 5},
    )
    data = {
        Role.FORGET: rows.select(torch.arange(16)),
        Role.RETAIN: rows.select(torch.arange(16, 80)),
    }
    model = ResNet18(torch.Generator().manual_seed(0), 4, classes=5)
    return Problem(model, Classifier(classes=5), NO_REQUEST, data, History())


def test_published_settings_are_those_of_the_card() -> None:
    for name in (FINE_TUNE, "CF-3", NEG_GRAD, ADVANCED):
        method = form(name, 3).method
        assert isinstance(method, PlainSgd)
        assert (method.learning_rate, method.epochs, method.batch_size) == (1e-3, 2, 64)
        [player] = method.descent().players
        assert player.optimiser == SGD(1e-3)  # no momentum, no decay
    scrub = form("SCRUB", 3).method
    assert isinstance(scrub, Scrub)
    assert (scrub.learning_rate, scrub.momentum, scrub.epochs) == (1e-3, 0.0, 2)
    assert (scrub.temperature, scrub.batch_size, scrub.retain_first) == (4.0, 64, True)
    assert form("UNSIR-1", 3).method == Unsir(NOISE_ROWS, copies=COPIES, repair_epochs=0)
    assert form("UNSIR-2", 3).method == Unsir(NOISE_ROWS, copies=COPIES)
    with pytest.raises(ExpungeError, match=r"no method 'CF-9' here; there are fine-tune, CF-3"):
        form("CF-9", 3)


def test_what_a_row_does_not_learn_from_it_never_opens() -> None:
    roles = {name: set(one.method.unlearns_with.roles) for name, one in forms(3).items()}
    assert Role.FORGET not in roles[FINE_TUNE]
    assert Role.FORGET not in roles["CF-3"]
    assert {Role.FORGET, Role.RETAIN} <= roles[ADVANCED]
    opened = form(NEG_GRAD, 3).method.unlearns_with.roles[Role.RETAIN]
    assert opened == frozenset()  # its number of rows alone


def after(method: PlainSgd, problem: Problem) -> torch.nn.Module:
    return unlearn(method, problem, Run()).applied_to(problem.model)


def moved(method: PlainSgd, problem: Problem) -> dict[str, float]:
    before, found = parameters_of(problem.model), parameters_of(after(method, problem))
    return {name: float((found[name] - before[name]).detach().abs().max()) for name in before}


def test_cf_3_moves_the_last_two_stages_and_the_head_alone(problem: Problem) -> None:
    method = form("CF-3", 3).method
    assert isinstance(method, PlainSgd)
    far = moved(method, problem)
    moving = {name.split(".")[0] for name, value in far.items() if value > 0}
    assert moving == {"stage3", "stage4", "head"}


def test_neg_grad_climbs_where_descent_would_descend(problem: Problem) -> None:
    """One step of each on the same rows, without batch norm between: the same length, the other
    way."""
    model = copy.deepcopy(problem.model).eval()
    rows = problem.data[Role.FORGET]
    data = {Role.FORGET: rows, Role.RETAIN: rows}
    still = Problem(model, problem.family, NO_REQUEST, data, History())
    up = after(PlainSgd(forget=Ascent(), retain=None, epochs=1), still)
    down = after(PlainSgd(epochs=1), still)
    both = after(PlainSgd(forget=Ascent(), epochs=1), still)
    start = parameters_of(model)
    for name, weight in start.items():
        rise = parameters_of(up)[name] - weight
        fall = parameters_of(down)[name] - weight
        assert torch.allclose(rise, -fall, atol=1e-6)
        assert torch.allclose(parameters_of(both)[name], weight, atol=1e-6)  # on equal rows
    assert any(bool((parameters_of(up)[name] != start[name]).any()) for name in start)


# ---- the verdict ----


def cell(
    name: str, way: str, seed: int, accuracy: float, a: float, forget: float
) -> dict[str, Any]:
    oracle = {"accuracy": 0.6, "a": 0.5, "forget": 0.6}
    own = {"accuracy": accuracy, "a": a, "forget": forget}
    apart = {f"{key} to the oracles": abs(own[key] - oracle[key]) for key in own}
    figures = {
        **own,
        **apart,
        "deviation": abs(a - 0.5),
        "NoMUS": 0.5 * accuracy + 0.5 - abs(a - 0.5),
        "top-2": None,
        "unseen": accuracy,
        "retain": 1.0,
        "forget loss": 0.1,
        "unseen loss": 0.5,
    }
    return {"draw": 0, "seed": seed, "way": way, "name": name, "seconds": 1.0, "figures": figures}


def found(original: float = 0.7, oracle: float = 0.5) -> dict[str, Any]:
    cells = []
    for seed in (0, 1):
        cells += [
            cell(ORIGINAL, MODELS, seed, 0.65, original, 1.0),
            cell(ORACLE, MODELS, seed, 0.6, oracle, 0.6),
            cell(FINE_TUNE, WAY, seed, 0.66, 0.69, 1.0),
            cell(NEG_GRAD, WAY, seed, 0.2, 0.52, 0.45),
            cell(ADVANCED, TUNED, seed, 0.6, 0.55, 0.65 if seed else 0.95),
            cell("SCRUB", TUNED, seed, 0.61, 0.54, 0.7),
        ]
    return {
        "cells": cells,
        "world": "w",
        "about": "w",
        "classes": 12,
        "people": [
            {"draw": 0, "parts": {"forget": [10, 2]}, "divided": ["F0003"], "single": ["a"]}
        ],
        "constant": [{"accuracy": 0.1, "NoMUS": 0.55}],
        "tuning": [{"draw": 0, "form": "SCRUB", "multiple": 4.0, "kept": False}],
    }


def test_a_row_has_to_forget_and_to_keep_the_task_in_every_cell() -> None:
    its = verdict(found())
    by = {row["name"]: row for row in its["rows"]}
    assert its["reached"] == ["SCRUB (tuned)"]
    assert (by[NEG_GRAD]["forgets"], by[NEG_GRAD]["keeps"]) == (2, 0)
    assert (by[FINE_TUNE]["forgets"], by[FINE_TUNE]["keeps"]) == (0, 2)
    assert by[ADVANCED]["both"] == 1
    held = {one["finding"].split()[0]: one["holds"] for one in its["expected"]}
    assert held == {"the": True, "fine-tuning": True, "NegGrad": True}


def test_a_failure_is_no_row_that_forgets() -> None:
    result = found()
    result["cells"][-1] = {
        **{k: v for k, v in result["cells"][-1].items() if k != "figures"},
        "failed": "the weights are no longer finite",
    }
    its = verdict(result)
    assert its["reached"] == []
    said = tables.sentences({**result, "verdict": its})
    assert "SCRUB, tuned, seed 1: failed: the weights are no longer finite" in said


@pytest.mark.parametrize(("original", "oracle"), [(0.59, 0.5), (0.7, 0.69)])
def test_where_nothing_was_memorised_nothing_is_judged(original: float, oracle: float) -> None:
    """Also where the attack sees as much in the retrained model: it tells persons apart."""
    result = found(original, oracle)
    its = verdict(result)
    assert not its["memorised"]
    assert its["reached"] == its["expected"] == []
    assert "nothing to forget" in tables.sentences({**result, "verdict": its})[-1]


def test_tables_show_the_models_beside_every_way_and_say_what_is_odd() -> None:
    result = found()
    result = {**result, "verdict": verdict(result)}
    shown = tables.tables(result)
    assert [title for title, _, _ in shown] == [f"w, {WAY}", f"w, {TUNED}"]
    for _, columns, rows in shown:
        assert [row[0] for row in rows[:2]] == [ORIGINAL, ORACLE]
        assert {len(row) for row in rows} == {len(columns)}
    assert shown[0][2][3][0] == f"{NEG_GRAD}*"  # under 90 % of the original's accuracy
    said = "\n".join(tables.sentences(result))
    assert "Chance: test 8.3, top-2 16.7" in said
    assert "NoMUS 55.0" in said
    assert "divides F0003" in said
    assert "none kept the task" in said
    assert "by SCRUB (tuned)." in said


def test_a_collapsed_model_can_outscore_the_retrained_one() -> None:
    its = verdict(found(0.9, 0.75))
    assert f"{NEG_GRAD} ({WAY})" in its["above the retrained"]


# ---- the whole ----


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", "identity", *(str(a) for a in arguments)])


def test_the_benchmark_from_originals_to_figures(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On drawings of 8 x 8 pixels and a small network, its jobs one after another in here."""
    retain, forget = problem.data[Role.RETAIN], problem.data[Role.FORGET]
    rows = [samples.batch(torch.arange(len(samples))) for samples in (forget, retain)]
    every = TensorSamples(
        [*forget.ids, *retain.ids],
        [f"person {int(name) // 5}" for name in (*forget.ids, *retain.ids)],
        {name: torch.cat([part[name] for part in rows]) for name in ("image", "label")},
    )
    each = {"forget": 3, "retain": 5, "validation": 2, "test": 3, "unseen": 3}

    def drawings(source: Source, kept: Path) -> World:
        recipe = Recipe(
            lambda seed: Mlp(torch.Generator().manual_seed(seed), (192, 32, 5)),
            Classifier(classes=5),
            Plain(20, 16, AdamW(5e-3)),
        )
        return World("drawings", drawn(every, each, source.draw), recipe, last=1)

    monkeypatch.setattr(worlds, "WORLDS", {"dicebear": drawings})
    monkeypatch.setattr(
        protocol, "by_job", lambda jobs, *_: {job: job.done() for job in dict.fromkeys(jobs)}
    )
    result = Protocol(tmp_path, Source("dicebear"), (FINE_TUNE, "ssd, preset"), 2, 2).conduct(
        lambda title, stored: None
    )
    ways = [
        (MODELS, ORIGINAL),
        (MODELS, ORACLE),
        (WAY, FINE_TUNE),
        (TUNED, FINE_TUNE),
        (PRESET, "ssd, preset"),
    ]
    cells = result["cells"]
    keys = [(c["way"], c["name"], c["draw"], c["seed"]) for c in cells]
    assert sorted(keys) == sorted(
        (*w, draw, seed) for w in ways for draw in (0, 1) for seed in (0, 1)
    )
    for one in cells:
        figures = one["figures"]
        expected = 0.5 * figures["accuracy"] + 0.5 * (1 - 2 * abs(figures["a"] - 0.5))
        assert figures["NoMUS"] == pytest.approx(expected)
    oracles = [c for c in cells if (c["name"], c["draw"]) == (ORACLE, 1)]
    apart = abs(oracles[0]["figures"]["forget"] - oracles[1]["figures"]["forget"])
    for one in oracles:  # each is held against the other of its own split
        assert one["figures"]["forget to the oracles"] == pytest.approx(apart)
    for tuned in result["tuning"]:
        assert [trial["multiple"] for trial in tuned["tried"]] == list(MULTIPLES)
        keeping = [trial for trial in tuned["tried"] if trial["keeps"]]
        if tuned["kept"]:
            best = min(keeping, key=lambda trial: float(trial["gap"]))
            assert best["multiple"] == tuned["multiple"]
    json.dumps(result)
    tables.tables(result)
    assert tables.sentences(result)


def test_a_result_is_found_again_under_all_that_it_depends_on(mufac: Path, tmp_path: Path) -> None:
    def key(rows: int = 16, **changed: Any) -> str:
        place = work.Place(Source("mufac", folder=mufac, rows=rows), tmp_path, (0, 1))
        given = {"form": FINE_TUNE, "seed": 0, "multiple": 1.0, **changed}
        return key_of(work.Answering(place, **given))

    keys = [key(), key(rows=30), key(form=NEG_GRAD), key(seed=1), key(multiple=4.0)]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def test_as_published_nobody_is_held_out_and_nothing_is_tuned(mufac: Path, tmp_path: Path) -> None:
    source = Source("mufac", folder=mufac, rows=12, as_published=True)
    room = world(source, tmp_path)
    assert room.people.validation is None
    assert room.people.divided == ["F0003"]
    assert room.recipe.learner.optimiser == SGD(0.01, 0.9, schedule=Drops(3))  # type: ignore[attr-defined]
    assert room.digest != world(Source("mufac", folder=mufac, rows=12), tmp_path).digest


def test_what_cannot_be_compared_is_said_before_any_work(mufac: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("--mufac", mufac, "--mucac", mufac), "one published set is expected"),
        (("--world", "faces"), "no world 'faces'; dicebear or vowels is expected"),
        (("--mucac", mufac, "--task", "age"), "no task 'age'"),
        (("--as-published",), "--as-published is for --mufac and --mucac"),
        (("--mufac", mufac, "--draws", 2), "whose parts are published"),
        (("--method", "nothing"), "no method 'nothing' here"),
        (("--mucac", mufac, "--out", tmp_path / "out"), "CelebA-HQ-identity.txt is not there"),
    ):
        result = invoked(*arguments)
        assert isinstance(result.exception, ExpungeError)
        assert said in str(result.exception)
    assert not (tmp_path / "out").exists()
    assert invoked("--seeds", 1).exit_code == 2
    assert invoked("--mufac", tmp_path / "nowhere").exit_code == 2
    with pytest.raises(ExpungeError, match="published set, which is not shipped; give the folder"):
        world(Source("mufac"), tmp_path)
    with pytest.raises(ExpungeError, match="1 seed was given; at least 2"):
        Protocol(tmp_path, Source("dicebear"), seeds=1)
    assert set(DRAWN) < set(WORLDS)


def test_pictures_need_one_label_each() -> None:
    with pytest.raises(ExpungeError, match="2 pictures and 1 labels; one of each a row"):
        PixelSamples(["a", "b"], ["a", "b"], torch.zeros(2, 3, 1, 1), torch.zeros(1))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows"), [("dicebear", 2_400), ("vowels", 1_920)])
def test_the_drawn_worlds_share_no_person_and_have_every_class_alike(
    name: str, rows: int, tmp_path: Path
) -> None:
    catalogue.fetched({"dicebear": "dicebear-people", "vowels": "japanese-vowels"}[name])
    first, second = (world(Source(name, draw), tmp_path) for draw in (0, 1))
    assert sum(n for n, _ in first.people.counts().values()) == rows
    for part in first.people.parts.values():
        labels = part.batch(torch.arange(len(part)))["label"].bincount()
        assert len(set(labels.tolist())) == 1  # the task says nothing of the person
        assert len(labels) == first.classes
    assert set(first.people.forget.subjects) != set(second.people.forget.subjects)
