"""Panels: which rows each request is measured on, and what is measured on them."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from expunge.audit.measure import Panel, measure, rows_held
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.requests import Request, Rows
from expunge.run import Run


class Table(dict[str, Sequence[object]]):
    """Columns by name."""

    @property
    def column_names(self) -> list[str]:
        return list(self)

    def __len__(self) -> int:
        return len(next(iter(self.values())))


def rows(labels: list[int], people: list[str], first: int = 0) -> tuple[TensorSamples, Table]:
    """Rows whose input says their label; the model that hands inputs on is always right."""
    ids = [f"row {i}" for i in range(first, first + len(labels))]
    given = torch.tensor(labels)
    columns = {"image": nn.functional.one_hot(given, 3).float(), "label": given}
    return TensorSamples(ids, people, columns), Table(id=ids, subject=people, label=labels)


HELD_OUT = rows([0, 0, 1, 2], ["a", "a", "b", "c"])
TRAIN = rows([0, 1, 2, 2, 1], ["a", "b", "d", "d", "c"], first=10)


def asked(column: str, *values: str) -> Request:
    return Request(f"{column} {' '.join(values)}", Rows(column, values))


def test_a_request_without_held_out_rows_scores_nan_and_retains_all() -> None:
    panel = Panel.of(*HELD_OUT, [asked("id", "row 10"), asked("subject", "a")])
    assert [len(group) for group in panel.groups] == [0, 2]
    assert panel.retained.tolist() == [2, 3]
    found = measure(Classifier(), nn.Identity(), panel, Run())
    assert found.requests.isnan().tolist() == [True, False]
    assert found.confidence.isnan().tolist() == [True, False]
    assert found.requests[1] == found.retained == 1.0


def test_values_that_are_held_count_and_others_do_not() -> None:
    assert rows_held(Rows("subject", ("a", "d")), HELD_OUT[1]).tolist() == [0, 1]
    assert rows_held(Rows("customer", ("a",)), HELD_OUT[1]).tolist() == []


def test_the_forget_rows_are_the_training_rows_of_each_request() -> None:
    requests = [asked("subject", "d"), asked("label", "0")]
    panel = Panel.of_forget_rows(*TRAIN, requests)
    assert list(panel.samples.ids) == ["row 12", "row 13", "row 10"]
    assert [group.tolist() for group in panel.groups] == [[0, 1], [2]]
    found = measure(Classifier(), nn.Identity(), panel, Run())
    assert found.requests.tolist() == [1.0, 1.0]
    assert len(panel.retained) == 0


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ([asked("subject", "a"), asked("label", "0")], "share 2 held-out rows"),
        ([asked("label", "0", "1", "2")], "name all 4 held-out rows"),
    ],
)
def test_panels_that_say_nothing_are_refused(requests: list[Request], said: str) -> None:
    with pytest.raises(ExpungeError, match=said):
        Panel.of(*HELD_OUT, requests)


def test_training_rows_of_two_requests_and_of_none_are_refused() -> None:
    with pytest.raises(ExpungeError, match="share 1 training rows"):
        Panel.of_forget_rows(*TRAIN, [asked("id", "row 10"), asked("subject", "a")])
    with pytest.raises(ExpungeError, match="does not hold"):
        Panel.of_forget_rows(*TRAIN, [asked("subject", "nobody")])
