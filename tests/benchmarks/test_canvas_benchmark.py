"""The canvas benchmark on six cells: what its reference rows say, and what it refuses."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.canvas import picture, protocol, tables, work, worlds
from expunge.benchmarks.canvas.protocol import Protocol, sound_base, sound_judges
from expunge.benchmarks.canvas.work import JUDGE_SEED, Look, Training
from expunge.benchmarks.canvas.worlds import DOMAINS, Target, world
from expunge.cli.bench_canvas import _target
from expunge.data.canvas import Canvas
from expunge.errors import ExpungeError
from expunge.families.diffusion_sampling import DDIM
from expunge.methods.esd import ESDX
from expunge.methods.safe_latent import SafeLatent
from expunge.methods.uce import UCE, AllTokens

TINY = Canvas(("tree", "fish", "moon"), ("noto", "outline"), 16, 40)
FISH, OUTLINE = Target("object", "fish", "tree"), Target("style", "outline", "noto")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world that a test can make, its jobs done in this process."""

    def at_once(jobs: Sequence[Any], folder: Path, processes: int, told: object) -> dict[Any, Any]:
        return {job: json.loads(json.dumps(job.done())) for job in dict.fromkeys(jobs)}

    world.cache_clear()
    monkeypatch.setitem(worlds.WORLDS, "tiny", (TINY, (8, 16), 12))
    monkeypatch.setattr(worlds, "LESSONS", 60)
    monkeypatch.setattr(worlds, "SAMPLER", DDIM(2, 2.0))
    monkeypatch.setattr(work, "RELEARNED", 2)
    monkeypatch.setattr(protocol, "by_job", at_once)
    forms = {
        "esd-x": (ESDX(steps=2, learning_rate=1e-3, sampler_steps=2),),
        "uce": (UCE(aligned=AllTokens()),),
        "sld, max": (SafeLatent.maximum(),),
    }
    monkeypatch.setattr(work, "FORMS", forms)
    monkeypatch.setattr(protocol, "FORMS", forms)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where judges and bases are kept between tests."""
    return tmp_path_factory.mktemp("canvas")


def asked(folder: Path, **more: Any) -> Protocol:
    forms = tuple(work.FORMS)
    return Protocol(folder, "tiny", (FISH, OUTLINE), forms, count=1, processes=1, **more)


def silent(title: str, stored: bool) -> None:
    pass


def test_a_base_that_does_not_draw_what_it_is_told_is_refused(folder: Path) -> None:
    with pytest.raises(ExpungeError, match=r"draws what it is told in these shares.*longer"):
        asked(folder).conduct(silent)


@pytest.fixture
def result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Of a base that is far from good enough, let through for once."""
    monkeypatch.setattr(protocol, "BASE", 0.0)
    monkeypatch.setattr(protocol, "FLOORS", 1e9)
    return asked(folder, in_turn=True, relearn=True).conduct(silent)


def test_reference_rows_and_costs(result: Mapping[str, Any], folder: Path) -> None:
    for word in ("fish", "outline"):
        rows = result["targets"][word]["rows"]
        assert set(rows) == {"original", "real", "destroyed", "esd-x", "uce", "sld, max"}
        [real], [destroyed] = rows["real"], rows["destroyed"]
        assert real["unlearning"] == 0 and real["in_domain"] == real["cross_domain"] == 1
        assert real["distance"] < destroyed["distance"] / 3
        [uce], [sld] = rows["uce"], rows["sld, max"]
        assert 0 < sld["stored megabytes"] < uce["stored megabytes"] < 1
        assert {"seconds", "gigabytes", "relearned", "kept"} <= set(uce)
    turns = result["in turn"]
    assert set(turns) == {"esd-x", "uce"}
    matrix = turns["uce"]["unlearning"]
    assert len(matrix) == 2 and all(len(row) == 2 for row in matrix)
    assert matrix[0][0] == pytest.approx(result["targets"]["fish"]["rows"]["uce"][0]["unlearning"])
    made = tables.tables(result)
    assert [title for title, _, _ in made][1] == "the object fish, in its place tree"
    assert all(len(row) == len(columns) for _, columns, rows in made for row in rows)
    drawn = picture.sheets(asked(folder), result)
    assert all(sheet.startswith(b"\x89PNG") for sheet in drawn.values()) and len(drawn) == 2


def test_the_same_seed_reproduces_every_picture(folder: Path) -> None:
    place = asked(folder).place
    model = place.room.recipe.builder(3)
    first, again = (Look(place, 0).drawn(model, 1, "report") for _ in range(2))
    assert torch.equal(first, again) and first.shape == (6, 3, 16, 16)
    assert not torch.equal(first, Look(place, 1).drawn(model, 1, "report"))


def test_the_judges_learn_what_they_are_asked(folder: Path) -> None:
    place = asked(folder).place
    rows = place.room.rows("test")
    judged = Look(place, 0).judged(rows.columns["image"])
    assert torch.equal(judged.judged["style"], rows.columns["style"])
    assert float((judged.judged["object"] == rows.columns["object"]).float().mean()) > 0.9
    assert Training(place, "object", JUDGE_SEED).title == "object, seed 7"
    turned = place.room.recoloured("test").columns["image"]
    grey = (turned.mean(1) - rows.columns["image"].mean(1)).abs().mean()
    assert float(grey) < 0.15 and not torch.equal(turned, rows.columns["image"])


def test_an_oracle_sees_neither_pictures_nor_prompts_of_its_target() -> None:
    for target in (FISH, OUTLINE):
        rows = world("tiny").rows("train", target)
        assert not bool(world("tiny").of(rows, target).any())
        told = world("tiny").family.speaking(rows.columns["prompt"], target.word)
        assert not bool(told.any()) and len(rows) < len(world("tiny").rows("train"))


def test_judges_and_words_that_are_not_good_enough() -> None:
    with pytest.raises(ExpungeError, match=r"judge of the styles is right on 0\.970"):
        sound_judges({"real": {"object": 1.0, "style": 0.97}})
    words = {"object": [1.0, 0.5, 1.0], "style": [1.0, 1.0]}
    found = {"object": 0.95, "style": 0.99, "distance": 2.0, "words": words}
    judged = {"distance": 1.0}
    sound_base("tiny", 0, found, judged, [OUTLINE])
    with pytest.raises(ExpungeError, match=r"draws the object 'fish' in 0\.50"):
        sound_base("tiny", 0, found, judged, [FISH])
    with pytest.raises(ExpungeError, match=r"4\.0 times as far"):
        sound_base("tiny", 0, {**found, "distance": 4.0}, judged, [OUTLINE])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target("object", "whale", "tree"), "'whale' is no object of the canvas"),
        (Target("style", "noto", "noto"), "so is the target"),
    ],
)
def test_targets_that_cannot_be(target: Target, words: str, folder: Path) -> None:
    with pytest.raises(ExpungeError, match=words):
        Protocol(folder, "tiny", (target,), ("uce",))


def test_what_is_asked_for_wrongly(folder: Path) -> None:
    with pytest.raises(ExpungeError, match="canvas 'huge'"):
        Protocol(folder, "huge")
    with pytest.raises(ExpungeError, match="forms fmn"):
        Protocol(folder, "tiny", (FISH,), ("fmn",))
    with pytest.raises(ExpungeError, match="'fish' was given"):
        _target("fish")
    assert _target("object:fish:tree") == FISH
    assert DOMAINS == ("object", "style")
