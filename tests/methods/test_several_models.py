"""The gradient methods on a text classifier with several input fields, and in bfloat16."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from expunge.changes.delta import Delta
from expunge.changes.history import History
from expunge.changes.weights import parameters_of
from expunge.data import digits
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.boundary_shrink import BoundaryShrink
from expunge.methods.cf_k import CfK
from expunge.methods.eu_k import EuK
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.protocol import Method, unlearn
from expunge.methods.random_label import RandomLabel
from expunge.methods.random_label_mixed import RandomLabelMixed
from expunge.methods.salun import SalUn
from expunge.methods.salun_mixed import SalUnMixed
from expunge.methods.salun_soft import SalUnSoft
from expunge.methods.scrub import Scrub
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run

THREES = Request("the threes", Rows("label", ("3",)))
FAMILY = Classifier(("input_ids", "attention_mask"), classes=10)
METHODS: tuple[Method, ...] = (
    BadTeacher(1, learning_rate=1e-3),
    BoundaryExpand(1, 1e-3),
    CfK(epochs=1),
    EuK(epochs=1),
    L1Sparse(epochs=1),
    RandomLabel(1),
    RandomLabelMixed(1),
    SalUn(epochs=1),
    SalUnMixed(1),
    SalUnSoft(1e-6, 1),
    Scrub(1, 1, learning_rate=0.01),
)


def reader(seed: int) -> nn.Module:
    """A small text classifier of `transformers`."""
    transformers = pytest.importorskip("transformers")
    config = transformers.DistilBertConfig(
        dim=16, n_layers=2, n_heads=2, hidden_dim=16, vocab_size=20, num_labels=10
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = transformers.DistilBertForSequenceClassification(config)
    return model.eval()


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Rows of digits read as words: the grey levels of two lines, the last of them masked."""
    table = digits.load("validation")
    columns = digits.tensors(table)
    words = (columns["image"].flatten(1)[:, 16:32] * 15).long() + 1
    seen = torch.ones_like(words)
    seen[:, -4:] = 0
    fields = {"input_ids": words, "attention_mask": seen, "label": columns["label"]}
    rows = TensorSamples(table["id"], table["subject"], fields).select(torch.arange(120))
    threes = rows.columns["label"] == 3
    data = {
        Role.FORGET: rows.select(threes.nonzero().reshape(-1)),
        Role.RETAIN: rows.select((~threes).nonzero().reshape(-1)),
    }
    recipe = Recipe(reader, FAMILY, Plain())
    return Problem(reader(0), FAMILY, THREES, data, History.of("base"), recipe=recipe)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_text_classifier_moves_where_the_method_says(
    method: Method, precision: str, problem: Problem
) -> None:
    run = Run(precision=precision)  # type: ignore[arg-type]
    [change] = unlearn(method, problem, run).changes
    assert isinstance(change, Delta)
    total = sum(p.numel() for p in parameters_of(problem.model).values())
    last = sum(p.numel() for n, p in parameters_of(problem.model).items() if "classifier" in n)
    share = {
        "salun": 0.5,
        "salun-mixed": 0.5,
        "cf-k": last / total,
        "eu-k": last / total,
    }.get(method.name, 1.0)
    assert 0.25 * share * total < change.count() <= share * total
    assert change.shapes().keys() <= parameters_of(problem.model).keys()


def test_texts_have_no_neighbours(problem: Problem) -> None:
    with pytest.raises(ExpungeError, match="For texts take `random-label` or `salun`"):
        unlearn(BoundaryShrink(), problem, Run())


def test_the_mode_of_the_whole_model_in_use_is_kept(problem: Problem) -> None:
    training = replace(problem, model=reader(0))
    after = SalUn(epochs=1).descent().minimise(training, Run()).model
    assert not any(module.training for module in after.modules())
