"""Facts about pruning learners: how many weights go, which, and that they stay away."""

import math
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from expunge.benchmarks.shipped import Work
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import TensorSamples
from expunge.descent.optimisers import SGD, AdamW, Constant, Cosine
from expunge.descent.schedules import Milestones, Part
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.magnitude_pruned import PAPER_TRAINING, MagnitudePruned
from expunge.learning.supervised.masks import (
    Convolutions,
    Masks,
    Matrices,
    Scope,
    all_kept,
    emptied,
    masks_of,
    pruned,
    record_of,
    smallest_pruned,
    sparsity_of,
    strays,
)
from expunge.learning.supervised.plain import Plain
from expunge.learning.supervised.same_mask import SameMask, Stretch
from expunge.learning.supervised.synflow import SynFlow, flow
from expunge.models.mlp import Mlp, digits_classifier
from expunge.models.resnet import ResNet18
from expunge.models.vit import VisionTransformer
from expunge.recipe import Learner, Recipe, Record, Role, Trained
from expunge.run import Run

FAMILY = Classifier(classes=10)
SHORT = Plain(3, 128, SGD(0.05, 0.9, weight_decay=5e-4, schedule=Cosine()))


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def small_resnet(number: int) -> nn.Module:
    return ResNet18(seed(number), width=4, channels=1)


def made(work: Work, learner: Learner, builder: object = digits_classifier) -> Trained:
    recipe = Recipe(builder, FAMILY, learner, 0)  # type: ignore[arg-type]
    return recipe.make(work.data, Run())


def zeros(model: nn.Module, masks: Masks) -> int:
    return sum(int((parameters_of(model)[n] == 0).sum()) for n in masks)


def weights_in(masks: Masks) -> int:
    return sum(mask.numel() for mask in masks.values())


# ---- magnitude ----


@pytest.mark.parametrize("sparsity", [0.8, 0.95])
def test_one_shot_pruning_leaves_exactly_the_share_at_zero(
    digits_work: Work, sparsity: float
) -> None:
    learner = MagnitudePruned(SHORT, sparsity, rewind=1, scope=Matrices())
    trained = made(digits_work, learner)
    masks = masks_of(trained.record)
    assert zeros(trained.model, masks) == math.floor(sparsity * weights_in(masks))
    assert strays(trained.model, masks) == 0
    assert set(masks) == {"layers.1.weight", "layers.3.weight", "layers.5.weight"}


@pytest.mark.filterwarnings("ignore:Pruning to")  # hardly trained
def test_the_paper_prunes_convolutions_alone(digits_work: Work) -> None:
    learner = MagnitudePruned(Plain(1, 256, AdamW(1e-3)), 0.95, rewind=0)
    trained = made(digits_work, learner, small_resnet)
    masks = masks_of(trained.record)
    convolutions = [m for m in trained.model.modules() if isinstance(m, nn.Conv2d)]
    assert weights_in(masks) == sum(m.weight.numel() for m in convolutions)
    assert zeros(trained.model, masks) == math.floor(0.95 * weights_in(masks))


@pytest.mark.filterwarnings("ignore:Pruning to")  # hardly trained
@pytest.mark.parametrize("rounds", [1, 3, 14])
def test_iterative_pruning_keeps_four_fifths_in_each_round(digits_work: Work, rounds: int) -> None:
    learner = MagnitudePruned(Plain(1, 256, SHORT.optimiser), 0.2, rounds, 0, Matrices())
    trained = made(digits_work, learner)
    masks = masks_of(trained.record)
    assert learner.sparsity == pytest.approx(1 - 0.8**rounds)
    exactly = weights_in(masks) * (5**rounds - 4**rounds) // 5**rounds
    assert zeros(trained.model, masks) == exactly


def test_what_an_earlier_round_pruned_stays_pruned(digits_work: Work) -> None:
    first, second = (
        masks_of(made(digits_work, MagnitudePruned(SHORT, 0.5, r, 1, Matrices())).record)
        for r in (1, 2)
    )
    assert all(not bool((second[n] & ~first[n]).any()) for n in first)


def test_rewinding_goes_back_to_the_weights_rate_and_rows_of_that_epoch(digits_work: Work) -> None:
    """Where nothing is pruned, training again from the rewound epoch repeats the dense model."""
    dense = MagnitudePruned(SHORT, 1e-9, 1, 2, Matrices())
    again = MagnitudePruned(SHORT, 1e-9, 3, 2, Matrices())
    assert sparsity_of(masks_of(made(digits_work, again).record)) == 0
    ends = {digest_of(made(digits_work, learner).model) for learner in (dense, again)}
    assert len(ends) == 1


def test_the_smallest_of_all_layers_together_go() -> None:
    model = digits_classifier()
    masks = all_kept(model, Matrices())
    sizes = {name: parameters_of(model)[name].detach().abs() for name in masks}
    cut = smallest_pruned(sizes, masks, 0.7)
    kept = torch.cat([sizes[n][cut[n]] for n in cut])
    gone = torch.cat([sizes[n][~cut[n]] for n in cut])
    assert float(gone.max()) <= float(kept.min())
    assert len({round(float((~m).float().mean()), 2) for m in cut.values()}) > 1  # not by layer


def test_of_equal_scores_the_first_go() -> None:
    masks = {"a": torch.ones(3, dtype=torch.bool), "b": torch.ones(2, 2, dtype=torch.bool)}
    scores = {"a": torch.ones(3), "b": torch.ones(2, 2)}
    cut = smallest_pruned(scores, masks, 4 / 7)
    assert cut["a"].tolist() == [False] * 3
    assert cut["b"].tolist() == [[False, True], [True, True]]
    assert smallest_pruned(scores, cut, 5 / 7)["b"].tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("hundredths", range(0, 100, 7))
def test_shares_are_counted_without_rounding_errors(hundredths: int) -> None:
    masks = {"a": torch.ones(100, dtype=torch.bool)}
    cut = smallest_pruned({"a": torch.arange(100.0)}, masks, hundredths / 100)
    assert int((~cut["a"]).sum()) == hundredths


# ---- SynFlow ----


def one_picture(channels: int, side: int) -> TensorSamples:
    pictures = torch.zeros(1, channels, side, side)
    return TensorSamples(["a"], ["a"], {"image": pictures, "label": torch.tensor([0])})


@pytest.mark.parametrize(
    ("model", "samples", "scope", "rounds"),
    [
        (Mlp(seed(), (64, 256, 256, 10)), one_picture(1, 8), Matrices(), 100),
        (ResNet18(seed(), 4, 1), one_picture(1, 28), Convolutions(), 20),
    ],
    ids=["mlp", "resnet"],
)
def test_synflow_empties_no_layer_where_a_single_round_does(
    model: nn.Module, samples: TensorSamples, scope: Scope, rounds: int
) -> None:
    many, single = (
        SynFlow(SHORT, 0.95, count, scope).masks(model, FAMILY, samples) for count in (rounds, 1)
    )
    assert not emptied(many)
    assert emptied(single)
    for masks in (many, single):
        assert sum(int((~m).sum()) for m in masks.values()) == math.floor(0.95 * weights_in(masks))


def test_flow_is_conserved_from_layer_to_layer() -> None:
    """Without biases every layer carries the same flow: the sum of the outputs."""
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 30, bias=False),
        nn.ReLU(),
        nn.Linear(30, 20, bias=False),
        nn.ReLU(),
        nn.Linear(20, 10, bias=False),
    )
    ones = {"image": torch.ones(1, 1, 8, 8).double()}
    names = tuple(parameters_of(model))
    found = [float(s.sum()) for s in flow(model, FAMILY, ones, names).values()]
    positive = [p.detach().double().abs() for p in model.parameters()]
    total = float((positive[2] @ positive[1] @ positive[0]).sum())
    assert found == pytest.approx([total] * 3)


def test_flow_leaves_the_model_and_its_running_statistics(digits_work: Work) -> None:
    model = small_resnet(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=seed())  # type: ignore[union-attr]
    before, modes = digest_of(model), [m.training for m in model.modules()]
    SynFlow(SHORT, 0.5, 3).masks(model, FAMILY, one_picture(1, 28))
    assert digest_of(model) == before
    assert [m.training for m in model.modules()] == modes


def test_the_masks_of_synflow_tell_nothing_of_the_rows(digits_work: Work) -> None:
    rows = digits_work.data[Role.TRAIN]
    spoiled = TensorSamples(
        rows.ids,
        rows.subjects,
        {"image": torch.full((len(rows), 1, 8, 8), 7.0), "label": torch.zeros(len(rows)).long()},
    )
    learner, model = SynFlow(SHORT, 0.9, 10, Matrices()), digits_classifier()
    one, other = learner.masks(model, FAMILY, rows), learner.masks(model, FAMILY, spoiled)
    assert all(torch.equal(one[n], other[n]) for n in one)


def test_synflow_trains_what_is_left_and_nothing_else(digits_work: Work) -> None:
    learner = SynFlow(SHORT, 0.9, 10, Matrices())
    trained = made(digits_work, learner)
    masks = masks_of(trained.record)
    assert zeros(trained.model, masks) == math.floor(0.9 * weights_in(masks))
    again = SameMask(SHORT, masks, "synflow").fit(
        digits_classifier(), FAMILY, digits_work.data, Run()
    )
    assert digest_of(trained.model) == digest_of(again.model)


# ---- masks, records, schedules ----


def test_the_whole_stretch_under_a_mask_of_ones_is_the_training_itself(digits_work: Work) -> None:
    model = digits_classifier()
    learners = SHORT, Stretch(SHORT, 0, 3), SameMask(SHORT, all_kept(model, Matrices()), "synflow")
    ends = {digest_of(each.fit(model, FAMILY, digits_work.data, Run()).model) for each in learners}
    assert len(ends) == 1


def test_masks_come_back_from_a_stored_record(tmp_path: Path) -> None:
    masks = smallest_pruned({"w": torch.arange(6.0)}, {"w": torch.ones(6, dtype=torch.bool)}, 0.5)
    record_of(masks, "synflow").save(tmp_path / "record.safetensors")
    stored = Record.load_checked(tmp_path / "record.safetensors")
    assert masks_of(stored)["w"].tolist() == [False] * 3 + [True] * 3
    assert stored.facts["sparsity"] == 0.5


def test_linear_layers_of_a_transformer_are_matrices_and_its_positions_are_not() -> None:
    model = VisionTransformer(seed(), 8, 1, 12, 3, 2, 1)
    assert set(Matrices().names(model)) == {
        "patches.projection.weight",
        "block1.attention.1.inputs.weight",
        "block1.attention.1.output.weight",
        "block1.mlp.1.weight",
        "block1.mlp.3.weight",
        "head.weight",
    }


def test_the_paper_lowers_its_rate_after_91_and_136_of_182_epochs() -> None:
    schedule = PAPER_TRAINING.optimiser.schedule
    rates = [schedule.share(epoch, 182) for epoch in range(182)]
    assert rates[:91] == [1.0] * 91
    assert rates[91:136] == pytest.approx([0.1] * 45)
    assert rates[136:] == pytest.approx([0.01] * 46)


@pytest.mark.parametrize("whole", [Constant(), Cosine(0.2), Milestones((0.25, 0.75), 0.5)])
def test_a_part_of_a_schedule_goes_on_where_the_part_before_ended(whole: Cosine) -> None:
    parts = [Part(whole, 0.0, 0.3), Part(whole, 0.3, 1.0)]
    joined = [
        part.share(step, n) for part, n in zip(parts, (30, 70), strict=True) for step in range(n)
    ]
    assert joined == [whole.share(step, 100) for step in range(100)]


# ---- bad input ----


def linear() -> nn.Module:
    return nn.Linear(2, 2)


def score(value: float) -> dict[str, Tensor]:
    return {"a": torch.tensor([value, 1.0])}


ONES = {"a": torch.ones(2, dtype=torch.bool)}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda: MagnitudePruned(SHORT, 1.0, rewind=1), "rate of 1.0 .* below 1"),
        (lambda: MagnitudePruned(SHORT, rewind=3), "epoch 3 of a training of 3 epochs"),
        (lambda: MagnitudePruned(SHORT, 0.2, 0, 1), "0 rounds"),
        (lambda: SynFlow(SHORT, 1.0), "sparsity of 1.0"),
        (lambda: SynFlow(SHORT, rounds=0), "0 rounds"),
        (lambda: smallest_pruned(score(1.0), ONES, 1.0), "answers the same to everything"),
        (lambda: smallest_pruned(score(math.nan), ONES, 0.5), "not finite"),
        (lambda: Convolutions().names(linear()), "Linear has no convolution.*scope `matrices`"),
        (lambda: Matrices().names(nn.BatchNorm2d(2)), "no convolution or linear layer"),
        (lambda: masks_of(None), "holds no masks"),
        (lambda: masks_of(Record()), "holds no masks"),
    ],
)
def test_what_cannot_be_pruned_is_said(given: object, sentence: str) -> None:
    with pytest.raises(ExpungeError, match=sentence):
        given()  # type: ignore[operator]


def test_a_network_without_flow_is_refused() -> None:
    dead = pruned(linear(), {"weight": torch.zeros(2, 2, dtype=torch.bool)})
    with pytest.raises(ExpungeError, match="No flow"):
        flow(dead, Classifier(("image",)), {"image": torch.ones(1, 2).double()}, ("weight",))


def test_an_emptied_layer_is_said_on_the_console(digits_work: Work) -> None:
    said = StringIO()
    run = Run(console=Console(file=said, width=200))
    learner = SynFlow(Plain(1, 512), 0.95, 1, Matrices())
    learner.fit(Mlp(seed(), (64, 256, 256, 10)), FAMILY, digits_work.data, run)
    assert "left no weight of layers.3.weight" in said.getvalue()
    with pytest.warns(UserWarning, match=r"left no weight of layers\.3\.weight"):
        learner.fit(Mlp(seed(), (64, 256, 256, 10)), FAMILY, digits_work.data, Run())
