"""The second family of the continual benchmark, on handwritten digits and the same turned white on
black: draws, rows, resumption, errors."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import torch.nn.functional as F
from tests.benchmarks.test_continual_vlm import inline
from typer.testing import CliRunner

from expunge.benchmarks import continual_classes, jobs
from expunge.benchmarks.classification.worlds import Part
from expunge.benchmarks.continual_classes import CLASSES, conduct, drawn, half, reserve
from expunge.benchmarks.continual_vlm import tables
from expunge.cli.main import app
from expunge.data import digits, own
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.learning.supervised.plain import Plain

ROWS = {"train": 30, "validation": 12, "test": 12}
"""Of each class."""


def turned(split: str) -> Part:
    """A few digits of 28 x 28 pixels; the ten other classes are their negatives, upside down."""
    table = digits.load(split)
    labels = torch.tensor(table["label"][:])
    at = torch.cat([(labels == digit).nonzero()[: ROWS[split], 0] for digit in range(10)])
    pictures = F.interpolate(digits.tensors(table)["image"][at], size=(28, 28), mode="bilinear")
    whole = torch.cat([pictures, (1 - pictures).flip(2)])
    both = torch.cat([labels[at], labels[at] + 10])
    names = [CLASSES[label] for label in both.tolist()]
    ids = [f"{split}/{row}" for row in range(len(names))]
    made = datasets.Dataset.from_dict({"id": ids, "subject": names, "label": names})
    return own.samples(made, {"image": whole, "label": both}), made


def small(patch: pytest.MonkeyPatch) -> None:
    """Few rows, and a learner that suits them."""
    parts = {split: turned(split) for split in ROWS}
    patch.setattr(continual_classes, "rows", parts.__getitem__)
    patch.setattr(continual_classes, "LEARNER", Plain(12, 32, AdamW(3e-3)))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two requests to one base, conducted twice: the result, and what each run was told."""
    told: list[list[bool]] = [[], []]
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        patch.setattr(jobs, "one_threaded", inline)
        folder = tmp_path_factory.mktemp("classes")
        results = [
            conduct(
                folder,
                ("reporting",),
                (3,),
                (2,),
                ("negation", "confined"),
                ("mean", "sum"),
                1,
                lambda title, stored, log=log: log.append(stored),  # type: ignore[misc]
            )
            for log in told
        ]
    return {"result": results[0], "again": results[1], "told": told}


def test_halves_and_draws() -> None:
    halves = [set(half(name)) for name in ("development", "reporting")]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(CLASSES)
    assert drawn("reporting", 3, 5) == drawn("reporting", 3, 9)[:5]
    assert drawn("reporting", 3, 5) != drawn("reporting", 4, 5)
    with pytest.raises(ExpungeError, match="11 requests were asked for, and a half has 10"):
        drawn("reporting", 3, 11)
    with pytest.raises(ExpungeError, match="'other' of the classes"):
        half("other")


def test_vectors_are_made_with_rows_of_the_other_half_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small(monkeypatch)
    _, table = turned("train")
    names = [table["label"][row] for row in reserve("reporting").tolist()]
    assert set(names) == set(half("development"))
    assert len(names) == 10 * ROWS["train"]


def test_classes_are_forgotten_and_a_second_run_computes_nothing(found: dict[str, Any]) -> None:
    result = found["result"]
    assert found["told"] == [[False], [True]]
    assert result | {"seconds": 0} == found["again"] | {"seconds": 0}
    [reference] = result["references"]
    assert min(reference["base"]["requests"][0]) > 0.5
    assert max(reference["oracle"]["requests"][0]) == 0
    ends = {(r["kind"], r["rule"]): r["matched"] for r in result["rows"]}
    assert len(ends) == 4
    for kind in ("negation", "confined"):
        mean, plain = ends[kind, "mean"], ends[kind, "sum"]
        assert mean["factor"] == pytest.approx(2 * plain["factor"])
        assert mean["requests"][-1] == plain["requests"][-1]
        assert plain["requests"][-1][0] < 0.5 < reference["base"]["requests"][0][0]
    [(title, columns, rows)] = tables.tables(result)
    assert title == "reporting groups, 2 requests, at equal retained accuracy"
    assert {len(cells) for cells in rows} == {len(columns)}
    assert any("(ours) against negation sum" in line for line in tables.verdicts(result))


def test_what_is_not_known_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    def refused(*given: str) -> str:
        result = CliRunner().invoke(
            app, ["bench", "continual-classes", "--out", str(tmp_path / "out"), *given]
        )
        assert isinstance(result.exception, ExpungeError)
        return str(result.exception)

    assert "no kind of vectors 'npo' at a preset" in refused("--kind", "npo")
    assert "'third' of the classes" in refused("--half", "third")
    assert "no" in refused("--rule", "vote")
    assert "11 requests were asked for" in refused("--requests", "11")
