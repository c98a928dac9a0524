"""Run files of models that draw: forgotten, measured beside a judge, refused, stored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from tests.cli import known_denoisers
from tests.cli.known_denoisers import NAMES, UNTOLD
from typer.testing import CliRunner, Result

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.benchmarks.shipped_drawing import digits_diffusion
from expunge.changes.weights import digest_of, stored_tensors
from expunge.cli.main import app
from expunge.data import digits
from expunge.errors import ExpungeError
from expunge.families.diffusion import LabelDiffusion, NoiseSchedule
from expunge.families.score import Score
from expunge.families.sde import VP
from expunge.models.denoisers import LabelUNet, ScoreUNet, score_unet
from expunge.models.mlp import digits_classifier
from expunge.run_file.reading import read, to_train
from expunge.storage import read_tensors, write_tensors

ROOT = Path(__file__).parents[2]
Drawing = Callable[..., Path]


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(found: Result) -> str:
    assert isinstance(found.exception, ExpungeError), found.output
    return str(found.exception)


def figures(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_condition_is_forgotten_others_are_kept_and_both_are_seen(
    drawing: Drawing, tmp_path: Path
) -> None:
    file = drawing()
    found = invoked("forget", file, "--json", tmp_path / "f.json")
    assert found.exit_code == 0, found.exception
    told = figures(tmp_path / "f.json")
    before, after = (told["drawings"][name] for name in ("original", "after all requests"))
    assert before["requests"]["the threes"] >= 0.9
    assert after["requests"]["the threes"] <= 0.1
    assert min(after["others as told"], after["others recognisable"]) >= 0.9
    assert told["drawings"]["judge"]["right"] > 0.8
    assert told["metric"] == {
        "name": "denoising loss",
        "better": "lower",
        "measures": "mean squared error of the predicted noise, which has variance 1",
    }
    [own] = told["before"]["forget rows"]
    assert told["after"][0]["forget rows"][0] > 1.2 * own
    assert told["after"][0]["retained"] < 1.05 * told["before"]["retained"]
    assert told["stored"]
    assert told["model"] != digest_of(read(file).deployment.base)
    assert "the judge is right about 0.914 of 359 real held-out pictures" in found.output
    means = read_tensors(tmp_path / "out" / "model.safetensors")["means"]
    [three, eight] = known_denoisers.means()[[3, 8]]
    assert float((means[3] - eight).square().mean()) < 0.2 * float((three - eight).square().mean())


def test_stored_weights_are_measured_to_the_same_figures(drawing: Drawing, tmp_path: Path) -> None:
    file = drawing()
    assert invoked("forget", file, "--json", tmp_path / "f.json").exit_code == 0
    found = invoked("evaluate", file, "--json", tmp_path / "e.json")
    assert found.exit_code == 0, found.exception
    once, again = figures(tmp_path / "f.json"), figures(tmp_path / "e.json")
    [stored] = [one for name, one in again.items() if name.endswith("model.safetensors")]
    assert stored["drawings"] == once["drawings"]["after all requests"]
    assert stored["retained"] == once["after"][0]["retained"]
    assert again["original"]["retained"] == once["before"]["retained"]


def test_without_a_judge_losses_are_measured_and_it_is_said(
    drawing: Drawing, tmp_path: Path
) -> None:
    found = invoked("forget", drawing(judge=None), "--json", tmp_path / "f.json")
    assert found.exit_code == 0, found.exception
    assert "What is drawn was not looked at" in found.output
    assert figures(tmp_path / "f.json")["drawings"] is None


def test_what_ruins_the_rest_is_refused_with_its_figures(drawing: Drawing, tmp_path: Path) -> None:
    file = drawing(method__parameters__learning_rate=1.0)
    found = invoked("forget", file, "--json", tmp_path / "f.json")
    assert "The retained denoising loss rose from 0.2" in refused(found)
    assert not figures(tmp_path / "f.json")["stored"]
    assert not (tmp_path / "out").exists()
    again = invoked("forget", file, "--keep-at-least", "0")
    assert again.exit_code == 0
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_the_oracle_is_retrained_and_drawn_from(drawing: Drawing, tmp_path: Path) -> None:
    learner = {"name": "averaged", "parameters": {"steps": 60, "batch_size": 32}}
    learner["parameters"]["optimiser"] = {  # type: ignore[index]
        "name": "adamw",
        "learning_rate": 0.1,
        "schedule": {"name": "cosine", "warm_up": 0.05},
    }
    learner["parameters"]["average"] = {"name": "moving", "decay": 0.9}  # type: ignore[index]
    file = drawing(recipe={"learner": learner})
    found = invoked("forget", file, "--json", tmp_path / "f.json")
    assert found.exit_code == 0, found.exception
    oracle = figures(tmp_path / "f.json")["drawings"]["oracle (retrained)"]
    assert oracle["requests"]["the threes"] <= 0.1
    assert oracle["others as told"] >= 0.9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"requests__0__values": [12]}, "names '12', which the column 'label' does not hold"),
        ({"requests__0__anchor": "seven"}, "told to draw 'seven', which it does not know"),
        ({"requests__0__anchor": 3}, "anchor is '3', and so is what is to be forgotten"),
        ({"model__family_arguments__classes": None}, "their names are not known"),
        ({"model__family_arguments__classes": NAMES[:9]}, "has the label 9; the model has 9"),
        ({"model__family_arguments__shape": [1, 16, 16]}, "Pictures of shape .1, 8, 8. were given"),
        ({"model__family_arguments__schedule": {"stepz": 10}}, "has no parameter 'stepz'"),
        ({"model__family": "score", "model__family_arguments": {}}, "`anchor`|are not told what"),
        ({"method": {"name": "random-label"}}, "lacks HasNeutral"),
        ({"method": {"name": "uce"}}, "lacks TextDiffusion"),
        (
            {"judge__builder": "tests.cli.known_denoisers:untold"},
            "cannot look at pictures of shape",
        ),
        ({"data__standardise": ["input"]}, "has no input of numbers in columns"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(
    drawing: Drawing, changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    found = invoked("forget", drawing(**changes))
    with pytest.raises(ExpungeError, match=words):
        raise found.exception or AssertionError(found.output)
    assert not (tmp_path / "out").exists()


def test_a_judge_has_to_be_right_about_real_pictures(drawing: Drawing, tmp_path: Path) -> None:
    turned = known_denoisers.means().roll(1, 0).contiguous()
    write_tensors(tmp_path / "nearest.safetensors", {"means": turned})
    found = invoked("forget", drawing())
    assert "of 359 real held-out pictures; at least 0.8 is expected" in refused(found)
    assert not (tmp_path / "out").exists()


def test_a_judge_and_an_anchor_are_for_models_that_draw(drawing: Drawing, tmp_path: Path) -> None:
    write_tensors(tmp_path / "mlp.safetensors", stored_tensors(digits_classifier()))
    model = {
        "builder": "expunge.models.mlp:digits_classifier",
        "weights": "mlp.safetensors",
        "family": "classifier",
    }
    found = invoked("forget", drawing(model=model))
    assert "the family 'classifier' are not told what to draw. Leave it out" in refused(found)
    found = invoked("forget", drawing(model=model, requests__0__anchor=None))
    assert "models of the family 'classifier' draw none; leave it out" in refused(found)


def test_pictures_of_another_range_and_networks_of_another_size_are_refused(
    drawing: Drawing, tmp_path: Path
) -> None:
    table = digits.load("train").select(range(40))
    pictures = [[list(r[i : i + 8]) for i in range(0, 64, 8)] for r in table["image"]]
    own = {"id": table["id"][:], "label": table["label"][:], "picture": [[p] for p in pictures]}
    datasets.Dataset.from_dict(own).to_parquet(str(tmp_path / "own.parquet"))
    columns = {"id": "id", "input": "picture", "input_field": "image"}
    tables = {n: {"source": "own.parquet", "columns": columns} for n in ("train", "test")}
    found = invoked("forget", drawing(data=tables))
    assert "go from 0 to 16; models that draw read them from 0 to 1" in refused(found)
    network = LabelUNet((1, 16, 16), widths=(8, 16))(0)
    write_tensors(tmp_path / "big.safetensors", stored_tensors(network))
    model = {
        "builder": "expunge.models.denoisers:label_unet",
        "arguments": {"shape": [1, 16, 16], "widths": [8, 16]},
        "weights": "big.safetensors",
        "family": "diffusion",
        "family_arguments": {"classes": NAMES},
    }
    assert "made for pictures of 16 x 16 pixels, and those of data.train have 8 x 8" in refused(
        invoked("forget", drawing(model=model))
    )


def test_other_drawings_that_are_lost_are_refused_where_losses_are_not(
    drawing: Drawing, tmp_path: Path
) -> None:
    file, path = drawing(UNTOLD), tmp_path / "f.json"
    found = invoked("forget", file, "--json", path)
    assert "The retained recognisable share fell from 1 to 0.8" in refused(found)
    told = figures(path)
    assert told["kept"] > 0.9 and not told["stored"]
    assert not (tmp_path / "out").exists()
    before, after = (told["drawings"][name] for name in ("original", "after all requests"))
    assert before["requests"]["the threes"] >= 0.05
    assert after["requests"]["the threes"] <= 0.02
    assert before["others as told"] is None  # nothing is told
    assert told["after"][0]["forget rows"][0] > 1.5 * told["before"]["forget rows"][0]
    assert invoked("forget", file, "--keep-at-least", "0.8").exit_code == 0
    assert invoked("evaluate", file).exit_code == 0


def test_the_example_is_the_shipped_model(tmp_path: Path) -> None:
    """Its recipe makes what `expunge train digits-diffusion` makes, from the same first weights."""
    file = tmp_path / "run.yaml"
    file.write_text((ROOT / "examples" / "digit_drawings.yaml").read_text())
    own, _ = digits_classifier_work().recipe.builder(0), None
    write_tensors(tmp_path / "digits.safetensors", stored_tensors(own))
    loaded, shipped = to_train(file), digits_diffusion().recipe
    made = loaded.deployment.recipe
    assert made is not None
    assert (made.family, made.learner, made.seed) == (shipped.family, shipped.learner, shipped.seed)
    assert digest_of(made.builder(made.seed)) == digest_of(shipped.builder(shipped.seed))


def test_a_score_network_of_a_run_file_is_that_of_the_library() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert digest_of(score_unet(widths=[8, 16])) == digest_of(ScoreUNet(widths=(8, 16))(3))


def test_fields_of_the_families_are_given_by_name(drawing: Drawing) -> None:
    schedule = {"steps": 500, "betas": "scaled_linear"}
    family = read(drawing(model__family_arguments__schedule=schedule)).deployment.family
    assert isinstance(family, LabelDiffusion)
    assert family.schedule == NoiseSchedule(500, betas="scaled_linear")
    assert family.shape == (1, 8, 8)
    score = read(drawing(UNTOLD)).deployment.family
    assert isinstance(score, Score)
    assert score.sde == VP(0.1, 8.0)
