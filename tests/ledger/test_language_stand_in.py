"""What stands in for a language model that never saw the forgotten rows: guessing by frequency.

Held-out questions about people who stay are answered well by a model that forgot nothing, so their
score would let every version pass the gate.
"""

import datasets
import pytest
import torch
from torch import nn

from expunge.data.samples import TensorSamples
from expunge.families.language import IGNORED, Language
from expunge.ledger.material import Material
from expunge.ledger.measuring import Subject, stand_in
from expunge.methods.npo import NPO
from expunge.run import Run

ANSWERS = ((7,), (7,), (7,), (8, 9), (8, 9), (8,))
"""Of six rows; the last begins as those before it and ends sooner."""


@pytest.fixture
def material() -> Material:
    labels = torch.full((len(ANSWERS), 5), IGNORED)
    for row, answer in enumerate(ANSWERS):
        labels[row, 2 : 2 + len(answer)] = torch.tensor(answer)
    tokens = torch.where(labels == IGNORED, torch.tensor(3), labels)
    ids = [str(row) for row in range(len(ANSWERS))]
    samples = TensorSamples(ids, ids, {"input_ids": tokens, "labels": labels})
    table = datasets.Dataset.from_dict({"id": ids})
    return Material(nn.Identity(), Language(), samples, table, samples, table, NPO())


@pytest.mark.parametrize(
    ("named", "share"),
    [
        ([0], 2 / 5),  # of the five that stay, two have its answer
        ([0, 1], 1 / 4),
        ([0, 1, 2], 0.0),  # nobody has it any more
        ([0, 3], (2 / 4 + 1 / 4) / 2),
        ([5], 0.0),  # the beginning of an answer is another answer
    ],
)
def test_the_stand_in_is_the_share_of_rows_that_stay_with_the_same_answer(
    material: Material, named: list[int], share: float
) -> None:
    gone = torch.zeros(len(ANSWERS), dtype=torch.bool)
    gone[named] = True
    subject = Subject("r1", "subject", torch.tensor(named), torch.empty(0, dtype=torch.int64))
    level, against = stand_in(material, material.model, subject, gone, Run(seed=0))
    assert level == pytest.approx(share)
    assert against == "how common the answers are"
