"""KLoM of models that unlearned, on each kind of rows."""

from dataclasses import replace

import pytest
import torch

from expunge.audit import unlearned
from expunge.audit.inquiry import Inquiry, Level
from expunge.audit.policy import Policy
from expunge.audit.references import References
from expunge.audit.removal import Removal


def test_klom_has_forgotten_held_out_and_some_retained_rows(
    removal: Removal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlearned, "RETAINED", 40)
    recipe = removal.recipe
    assert recipe is not None
    short = replace(recipe, learner=replace(recipe.learner, epochs=1))  # type: ignore[type-var]
    few = replace(removal, recipe=short, unlearner=lambda before, *_: before)
    references = References(few, oracles=2, engine="stacked")
    inquiry = Inquiry(few, few.before, references, Policy(), Level.ADVERSARIAL)
    found = unlearned.closeness(inquiry)
    rows = {kind: len(one.values) for kind, one in found.items()}
    assert rows == {"forget": len(few.forget), "retain": 40, "held-out": len(few.held_out)}
    again = unlearned.closeness(inquiry)
    assert torch.equal(found["retain"].values, again["retain"].values)
    assert found["retain"].original is not None
    assert torch.equal(found["retain"].values, found["retain"].original), "nothing was unlearned"
