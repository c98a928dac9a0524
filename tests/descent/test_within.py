"""Facts about parameters within masks."""

import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.descent.player import Matching
from expunge.descent.within import Within
from expunge.families.classifier import Classifier
from expunge.problem import Problem
from expunge.requests import NO_REQUEST
from expunge.run import Run


def selected(within: Within, model: nn.Module) -> dict[str, Tensor | None]:
    problem = Problem(model, Classifier(), NO_REQUEST, {}, History())
    return dict(within.select(model, problem, Run()))


def test_a_mask_cuts_what_is_selected_and_selects_nothing_more() -> None:
    model = nn.Linear(2, 2)
    mask = torch.tensor([[True, False], [False, True]])
    found = selected(Within({"weight": mask}), model)
    assert found["bias"] is None
    assert found["weight"] is not None
    assert torch.equal(found["weight"], mask)
    assert selected(Within({"weight": mask}, Matching(("bias",))), model) == {"bias": None}


def test_two_masks_leave_what_both_keep() -> None:
    rows = torch.tensor([[True, True], [False, False]])
    columns = torch.tensor([[True, False], [True, False]])
    both = Within({"weight": rows}, Within({"weight": columns}))
    found = selected(both, nn.Linear(2, 2))["weight"]
    assert found is not None
    assert torch.equal(found, rows & columns)


def test_a_row_that_a_method_added_may_move() -> None:
    found = selected(Within({"weight": torch.zeros(2, 3, dtype=torch.bool)}), nn.Linear(3, 4))
    assert found["weight"] is not None
    assert found["weight"].tolist() == [[False] * 3] * 2 + [[True] * 3] * 2


def test_other_masks_are_another_descent() -> None:
    """Two descents are compared by what they print, a checkpoint with its descent, too."""
    ones, zeros = torch.ones(200, 200, dtype=torch.bool), torch.zeros(200, 200, dtype=torch.bool)
    middle = ones.clone()
    middle[100, 100] = False
    printed = {repr(Within({"weight": mask})) for mask in (ones, zeros, middle, ones.clone())}
    assert len(printed) == 3
