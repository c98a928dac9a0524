"""The speed benchmark of ACU compares equal heads; times are not tested."""

import json

import pytest
import torch

from expunge.benchmarks import speed_acu
from expunge.benchmarks.shipped import Work
from expunge.cli.output import console, table
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.recipe import Role


class Small:
    """Digits in the place of clothes, at the same 28 x 28 pixels."""

    def __init__(self, work: Work) -> None:
        rows = work.data[Role.TRAIN]
        assert isinstance(rows, TensorSamples)
        large = torch.nn.functional.interpolate(rows.columns["image"], size=28)
        self.train, self.validation = (
            rows.with_column("image", large).select(torch.arange(start, start + 400))
            for start in (0, 400)
        )


def test_the_ratios_follow_from_the_times(
    monkeypatch: pytest.MonkeyPatch, digits_work: Work
) -> None:
    monkeypatch.setattr(speed_acu, "world", lambda name: Small(digits_work))
    told: list[str] = []
    result = speed_acu.run(600, 64, 1, told.append)
    assert json.loads(json.dumps(result)) == result
    assert result["rows"] == 600
    for name, its in result["requests"].items():
        assert its["algebra ratio"] == result["anew"] / its["algebra"]
        assert its["method ratio to the symmetric"] == result["anew, symmetric"] / its["method"]
        assert (its["apart"] == 0) == (name == "resolve")
    title, columns, rows, below = speed_acu.table(result)
    with console.capture() as shown:
        console.print(table(title, columns, rows), width=80)
    assert "a request, recursion, method" in shown.get()
    assert "Distance to the retrained head: recursion" in below
    monkeypatch.setattr(speed_acu, "EQUAL", -1.0)
    with pytest.raises(ExpungeError, match="their times would say nothing"):
        speed_acu.run(600, 64, 1, told.append)
