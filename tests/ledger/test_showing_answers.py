"""Facts about answers that are shown: they are those of the versions, in words of the family, and
are refused where nothing can be asked."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from small_model import ASCENT, OPEN, REMOVED, Working, material, tables, thinned
from torch import nn

from expunge.data.samples import TensorSamples
from expunge.errors import ConflictError, ExpungeError, UnknownError
from expunge.families.regressor import Regressor
from expunge.ledger.asking import seal
from expunge.ledger.material import Material, Source
from expunge.ledger.opening import Ledger, model_row
from expunge.ledger.registering import register
from expunge.ledger.serving import built
from expunge.ledger.showing_answers import Shown, answers
from expunge.ledger.standing import Standing
from language_folder import folder, run_file

Make = Callable[..., Working]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def named() -> Material:
    """The digits, called by their names."""
    return replace(material(), classes=NAMES)


def shown(made: Working, request: str, *arguments: Any, **more: Any) -> Shown:
    with made.ledger.database.reading() as connection:
        row = model_row(connection, made.model)
    return answers(made.ledger, Standing.of(made.ledger, row), request, *arguments, **more)


def test_a_classifier_answers_with_the_name_of_a_class_and_its_probability(working: Make) -> None:
    made = working(source=f"{__name__}:named", given=named())
    made.served("subject", "writer 3", **ASCENT)
    request = made.served("label", "8")
    found = shown(made, request, 5)

    assert (found.before, found.after, found.gone) == (1, 2, 0)
    eights = [i for i, label in enumerate(tables()[0]["label"][:]) if label == 8]
    assert [row.row for row in found.rows] == [tables()[0]["id"][i] for i in eights[:5]]
    assert found.more == len(eights) - 5
    images = material().train.batch(torch.tensor(eights[:5]))["image"]
    for number in (1, 2):
        model = built(made.ledger, made.model, number).model.eval()
        with torch.inference_mode():
            shares = model(images).softmax(1)
        for row, own in zip(found.rows, shares, strict=True):
            said = row.before if number == 1 else row.after
            assert said.text == NAMES[int(own.argmax())]
            assert said.probability == pytest.approx(float(own.max()), abs=1e-6)
            assert said.right == pytest.approx(float(own[8]), abs=1e-6)
            assert (row.truth, row.asked) == ("eight", None)
    assert sum(row.before.text == "eight" for row in found.rows) == 5
    assert all(row.after.right < row.before.right for row in found.rows)  # type: ignore[operator]
    assert shown(made, request, 5, before=0, after=0).rows[0].before == (
        shown(made, request, 5, before=0, after=0).rows[0].after
    )


def test_a_guard_answers_as_it_is_served(working: Make) -> None:
    made = working()
    request = made.served("label", "8", method="guardrail")
    found = shown(made, request)
    assert [row.before.text for row in found.rows].count("8") > 15
    assert [row.after.text for row in found.rows].count("8") == 0


def test_what_cannot_be_asked_is_refused_with_the_reason(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(source="small_model:thinned", given=thinned())
    waiting = made.ask("subject", "writer 1", **ASCENT)
    with pytest.raises(ConflictError, match="is received and its rows were not looked for"):
        shown(made, waiting)
    made.work()
    with pytest.raises(UnknownError, match="no version 7; its versions are 0 to 1"):
        shown(made, waiting, after=7)
    with pytest.raises(ExpungeError, match="limit 0"):
        shown(made, waiting, 0)
    with pytest.raises(UnknownError, match="no request 'r1'"):
        shown(made, "r1")
    nobody = made.served("subject", "no such person")
    with pytest.raises(ConflictError, match="not in the training data"):
        shown(made, nobody)
    eight = made.served("label", "8")
    monkeypatch.setattr("small_model.REMOVED", [8])
    with pytest.raises(ConflictError, match="in the training table no more"):
        shown(made, eight)
    assert shown(made, waiting, 20).gone > 0  # some of the writer's rows were eights
    monkeypatch.setattr("small_model.REMOVED", REMOVED[:0])
    seal(made.ledger, made.model)
    made.work()
    with pytest.raises(ConflictError, match=r"is sealed: .* destroyed"):
        shown(made, eight)


def test_a_version_that_a_seal_destroyed_is_not_asked(working: Make) -> None:
    made = working()
    made.served("subject", "writer 1", **ASCENT)
    seal(made.ledger, made.model)
    made.work()
    later = made.served("subject", "writer 2", **ASCENT)
    assert (shown(made, later).before, shown(made, later).after) == (2, 3)
    with pytest.raises(ConflictError, match="Version 1 of 'digits' was destroyed"):
        shown(made, later, before=1)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("llama"))


def test_a_language_model_answers_with_the_text_that_it_goes_on_with(
    llama: Path, tmp_path: Path
) -> None:
    (tmp_path / "ledger").mkdir()
    opened = Ledger.init(f"sqlite:///{tmp_path / 'ledger' / 'ledger.db'}")
    register(opened, "digits", Source.of_run_file(run_file(tmp_path, llama)), OPEN)
    made = Working(opened)
    request = made.served("subject", "eve")
    found = shown(made, request)

    table = datasets.Dataset.from_parquet(str(llama / "facts.parquet"))
    rows = [row for row in table if row["subject"] == "eve" and row["split"] == "train"]
    assert [(row.row, row.asked, row.truth) for row in found.rows] == [
        (row["id"], row["question"], row["answer"]) for row in rows
    ]
    assert [row.before.text for row in found.rows] == [row["answer"] for row in rows]
    assert all(row.before.right > 0.5 for row in found.rows)  # type: ignore[operator]
    assert any(row.after.text != row.truth for row in found.rows)
    assert all(row.after.probability is None for row in found.rows)

    model: Any = built(opened, "digits").model
    words = Standing.of(opened, made.row("models")).material.checkpoint._tokenizer  # type: ignore[union-attr]
    for row in found.rows:
        ids = torch.tensor([words(row.asked)["input_ids"]])
        end = words.eos_token_id
        own = model.generate(ids, max_new_tokens=10, do_sample=False, eos_token_id=end)
        assert row.after.text == words.decode(own[0, ids.shape[1] :], skip_special_tokens=True)


class Doubled(nn.Module):
    """Answers with a multiple of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.factor * image


def numbers(units: tuple[float, ...] = ()) -> Material:
    """Ten people whose true answer is three times their number."""
    ids = [f"p{i}" for i in range(10)]
    inputs = torch.arange(10.0)
    rows = TensorSamples(ids, ids, {"image": inputs, "target": 3 * inputs})
    table = datasets.Dataset.from_dict({"id": ids, "subject": ids})
    return replace(
        material(),
        model=Doubled(),
        family=Regressor(units=units),
        train=rows,
        train_table=table,
        held_out=rows,
        held_out_table=table,
        recipe=None,
        method=material().method_named("gradient-ascent", {"epochs": 1, "learning_rate": 0.5}),
    )


def scaled() -> Material:
    """The same where a target of 1 is 10 of the user's."""
    return numbers((10.0,))


@pytest.mark.parametrize(
    ("source", "texts"),
    [(numbers, ("8", "12")), (scaled, ("off by -40", "12 deviations from the mean"))],
)
def test_a_regressor_answers_with_a_number(
    tmp_path: Path, source: Callable[[], Material], texts: tuple[str, str]
) -> None:
    opened = Ledger.init(f"sqlite:///{tmp_path / 'ledger.db'}")
    register(opened, "digits", Source.of_function(f"{__name__}:{source.__name__}"), OPEN)
    made = Working(opened)
    [row] = shown(made, made.served("subject", "p4")).rows
    assert (row.before.text, row.truth) == texts
    assert (row.before.probability, row.before.right) == (None, None)
    factor = float(dict(built(opened, "digits").model.named_parameters())["factor"].detach())
    assert factor != 2 and math.isfinite(factor)
    wrong = 4 * factor - 12
    text = f"{12 + wrong:.4g}" if source is numbers else f"off by {10 * wrong:.4g}"
    assert row.after.text == text
