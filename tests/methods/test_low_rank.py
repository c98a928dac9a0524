"""Low rank: the one loop over factors gives adapters that fold as ``peft`` merges them."""

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.adapter import LowRank
from expunge.changes.history import History
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import Batch, TensorSamples
from expunge.descent.factors import Shape, linear_layers, with_factors
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.player import Matching, Player, Setting
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.families.language import IGNORED, Language
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.low_rank import (
    GradientDifferenceLora,
    LowRankMethod,
    NPOLora,
    over_factors,
)
from expunge.methods.npo import NPORetain
from expunge.methods.protocol import ByDescent, unlearn
from expunge.models.tiny_llama import TinyLlama
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run

FAST: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-2}


def rows(start: int, stop: int) -> TensorSamples:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 30, (24, 8), generator=draw)
    labels = ids.clone()
    labels[:, :5] = IGNORED
    names = [str(i) for i in range(start, stop)]
    return TensorSamples(names, names, {"input_ids": ids[start:stop], "labels": labels[start:stop]})


@pytest.fixture
def problem() -> Problem:
    model = TinyLlama(30, 2, 32, inner=48)(0)
    data = {Role.FORGET: rows(0, 8), Role.RETAIN: rows(8, 24)}
    return Problem(model, Language(), NO_REQUEST, data, History.of(digest_of(model)))


def test_any_method_that_descends_gives_a_low_rank_adapter_of_the_base(problem: Problem) -> None:
    before = digest_of(problem.model)
    for method in (
        LowRankMethod(around=GradientDifference(**FAST), rank=3, targets=("q_proj", "v_proj")),
        LowRankMethod(around=NPORetain(**FAST)),  # which asks the reference
    ):
        (change,) = unlearn(method, problem, Run()).changes
        assert isinstance(change, LowRank)
        assert change.base == before == digest_of(problem.model)
        changed = change.applied_to(problem.model)
        names = {n for n, t in change.tensors() if bool(t.any())}
        assert names == set(change.factors)
        moved = parameters_of(changed)
        assert all(not torch.equal(moved[n], parameters_of(problem.model)[n]) for n in names)
    assert len(names) == 2 * 7  # every linear layer of two blocks, and not the head


def test_named_forms_are_the_wrapped_methods(problem: Problem) -> None:
    for named, around in (
        (NPOLora(**FAST), NPORetain(**FAST)),
        (GradientDifferenceLora(**FAST), GradientDifference(**FAST)),
    ):
        (one,) = unlearn(named, problem, Run()).changes
        (other,) = unlearn(LowRankMethod(around=around), problem, Run()).changes
        assert isinstance(one, LowRank) and isinstance(other, LowRank)
        for (_, mine), (_, its) in zip(one.tensors(), other.tensors(), strict=True):
            assert torch.equal(mine, its)


def test_folding_gives_the_weights_that_peft_merges(problem: Problem) -> None:
    trained = with_factors(problem.model, Shape(4, 8.0), Run())
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    folded = LowRank.of_peft(trained, problem.model).applied_to(problem.model)
    for module in trained.modules():
        given: Any = module
        if hasattr(module, "merge") and hasattr(module, "lora_A"):
            own = given.base_layer.weight  # merging writes to it, and it is shared
            given.base_layer.weight = nn.Parameter(own.detach().clone(), requires_grad=False)
            given.merge()
    merged = {
        n.replace(".base_layer", ""): t
        for n, t in parameters_of(trained).items()
        if ".lora_" not in n
    }
    for name, weight in parameters_of(folded).items():
        assert torch.equal(weight, merged[name]), name


def test_the_reference_costs_no_second_model(problem: Problem) -> None:
    held: list[set[int]] = []

    @dataclass(frozen=True)
    class Looking(Loss):
        def start(self, setting: Setting, samples: Any) -> None:
            for model in (setting.reference(), setting.model):
                held.append(
                    {p.data_ptr() for n, p in model.named_parameters() if ".lora_" not in n}
                )

    @dataclass(frozen=True)
    class Looks(ByDescent):
        name: ClassVar[str] = "looks"
        paper: ClassVar[str] = ""
        sequential: bool = False

        def descent(self) -> Descent:
            return Descent(Player(forget=Looking()), length=Steps(1))

    unlearn(LowRankMethod(around=Looks()), problem, Run())
    weights = {p.data_ptr() for p in problem.model.parameters()}
    assert held == [weights, weights]


def test_factors_that_change_nothing_leave_the_answers_bit_for_bit(problem: Problem) -> None:
    batch = problem.data[Role.RETAIN].batch(torch.arange(4))
    family = Language()
    wrapped = with_factors(problem.model, Shape(), Run())
    for model in (wrapped, copy.deepcopy(wrapped)):
        asked = family.losses(model.eval(), batch).values
        assert torch.equal(asked, family.losses(problem.model.eval(), batch).values)


def test_a_sequential_method_returns_the_model_with_the_adapter_in_it(problem: Problem) -> None:
    around = GradientDifference(**FAST)
    (adapter,) = unlearn(LowRankMethod(around=around), problem, Run()).changes
    sequential = LowRankMethod(around=replace(around, sequential=True))
    (change,) = unlearn(sequential, problem, Run()).changes
    assert isinstance(change, Replacement) and isinstance(adapter, LowRank)
    assert change.digest() == digest_of(adapter.applied_to(problem.model))


def test_nothing_but_factors_moves_whatever_a_player_selects(problem: Problem) -> None:
    descent = over_factors(
        Descent(Player(forget=Loss(), parameters=Matching(("norm",))), length=Steps(1))
    )
    trained = with_factors(problem.model, Shape(), Run())
    with pytest.raises(ExpungeError, match="none of which is a low-rank factor"):
        descent.minimise(replace(problem, model=trained), Run())


def test_what_cannot_be_trained_is_said(problem: Problem) -> None:
    with pytest.raises(ExpungeError, match=r"ends with 'query'; it has model\.layers\.0"):
        with_factors(problem.model, Shape(targets=("query",)), Run())
    with pytest.raises(ExpungeError, match="rank 0"):
        Shape(0)
    name = linear_layers(problem.model)[0] + ".weight"
    pruned = replace(problem, support={name: torch.ones(32, 32, dtype=torch.bool)})
    with pytest.raises(ExpungeError, match="pruned"):
        unlearn(GradientDifferenceLora(**FAST), pruned, Run())


class Vision(nn.Module):
    """A model that is not of ``transformers``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.last(torch.relu(self.first(inputs)))
        return found


def test_models_of_any_kind_take_factors() -> None:
    model = Vision()
    wrapped = with_factors(model, Shape(2), Run())
    batch: Batch = {"inputs": torch.randn(5, 4)}
    assert torch.equal(wrapped.eval()(batch["inputs"]), model(batch["inputs"]))
    assert set(LowRank.of_peft(wrapped, model).factors) == {"first.weight", "last.weight"}
