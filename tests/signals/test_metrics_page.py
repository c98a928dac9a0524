"""The page of metrics: it lists every metric there is, and its example prints what stands there."""

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest

from expunge.audit.anamnesis import ANAMNESIS_INDEX
from expunge.signals import FEATURES, Metric

ROOMS = (
    "calibration",
    "challenge",
    "corrective",
    "divergence",
    "klom",
    "leace",
    "membership",
    "nomus",
    "roc",
    "unlearning",
    "wasserstein",
)

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+\.\d+")


def test_every_metric_and_feature_has_a_row_with_its_direction() -> None:
    rows = [[c.strip() for c in r.split("|")[1:-1]] for r in PAGE.splitlines() if r[:2] == "| "]
    directions = {row[0].lower(): row[2] for row in rows if len(row) == 6}
    for room in ROOMS:
        for metric in vars(importlib.import_module(f"expunge.signals.{room}")).values():
            if isinstance(metric, Metric):
                assert directions[metric.name.lower()] == metric.direction
    assert directions[ANAMNESIS_INDEX.name.lower()] == ANAMNESIS_INDEX.direction
    assert set(FEATURES) <= {row[0] for row in rows if len(row) == 3}


@pytest.mark.slow
def test_the_example_prints_what_stands_there() -> None:
    code, expected = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.S) for kind in ("python", "text"))
    assert code is not None
    assert expected is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code[1], {})
    assert NUMBER.sub("", printed.getvalue()) == NUMBER.sub("", expected[1])
    found, stands = (
        [float(n) for n in NUMBER.findall(text)] for text in (printed.getvalue(), expected[1])
    )
    assert found == pytest.approx(stands, abs=0.05)  # other processors train other last digits
