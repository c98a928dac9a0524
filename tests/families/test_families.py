"""The families classifier and dual encoder, and the reductions of their losses."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from expunge.changes.weights import buffers_of, parameters_of
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import (
    Family,
    HasLogits,
    HasLoss,
    HasMargins,
    HasNeutral,
    HasOutputs,
    UnitLosses,
    able,
)
from expunge.families.classifier import Classifier
from expunge.families.dual_encoder import DualEncoder, TwoTowers
from expunge.families.from_logits import log_odds, other_labels

ABILITIES = (HasLoss, HasOutputs, HasLogits, HasMargins, HasNeutral)


# ---- reductions ----


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 1000))
def test_reductions_count_the_units_under_the_mask(rows: int, units: int, seed: int) -> None:
    torch.manual_seed(seed)
    values, mask = torch.randn(rows, units).double(), torch.rand(rows, units) < 0.6
    losses = UnitLosses(values, mask)
    kept = [values[i][mask[i]] for i in range(rows)]
    sums = torch.stack([k.sum() for k in kept])
    means = torch.stack([k.mean() if len(k) else torch.zeros((), dtype=k.dtype) for k in kept])
    assert torch.allclose(losses.sums(), sums)
    assert torch.allclose(losses.means(), means)
    every = torch.cat(kept)
    assert float(losses.mean()) == pytest.approx(float(every.mean()) if len(every) else 0.0)


def test_the_mean_over_tokens_is_not_the_mean_over_sequences() -> None:
    values = torch.tensor([[4.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, False, False], [True, True, True]])
    losses = UnitLosses(values, mask)
    assert float(losses.mean()) == 7 / 4
    assert float(losses.means().mean()) == 5 / 2
    assert losses.sums().tolist() == [4.0, 3.0]


def test_with_one_unit_a_sample_all_means_agree() -> None:
    losses = UnitLosses.per_sample(torch.tensor([1.0, 2.0, 6.0]))
    assert losses.sums().tolist() == losses.means().tolist() == [1.0, 2.0, 6.0]
    assert float(losses.mean()) == float(losses.means().mean()) == 3.0


# ---- margins and neutral labels ----


@given(st.integers(2, 9), st.integers(0, 1000))
def test_the_margin_is_the_log_odds_of_the_label(classes: int, seed: int) -> None:
    torch.manual_seed(seed)
    logits, labels = 3 * torch.randn(6, classes).double(), torch.randint(classes, (6,))
    right = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    margins = log_odds(logits, labels)
    assert torch.allclose(margins, torch.log(right / (1 - right)), atol=1e-8)
    assert torch.allclose(F.softplus(-margins), F.cross_entropy(logits, labels, reduction="none"))
    assert torch.allclose(log_odds(logits + 5.0, labels), margins)


def test_the_margin_stays_finite_where_the_probability_rounds_to_one() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [-200.0, 0.0, 0.0]])
    margins = log_odds(logits, torch.tensor([0, 0]))
    assert margins.tolist() == pytest.approx([200 - np.log(2), -200 - np.log(2)])


@given(st.integers(2, 12), st.integers(0, 1000))
def test_a_neutral_label_is_never_the_row_s_own(classes: int, seed: int) -> None:
    labels = torch.randint(classes, (64,))
    drawn = other_labels(labels, classes, torch.Generator().manual_seed(seed))
    assert not bool((drawn == labels).any())
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < classes


@pytest.mark.parametrize("own", [0, 2, 4])
def test_neutral_labels_are_uniform_among_the_others(own: int) -> None:
    count, classes = 40_000, 5
    labels = torch.full((count,), own)
    drawn = other_labels(labels, classes, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=classes).double()
    expected = torch.full((classes,), count / (classes - 1)).double()
    expected[own] = 0
    others = expected > 0
    squares = ((counts - expected)[others] ** 2 / expected[others]).sum()
    assert counts[own] == 0
    assert float(squares) < 16.27  # chi-squared with 3 degrees of freedom, p = 0.001


@pytest.mark.parametrize("family", [Classifier(), Classifier(classes=1), DualEncoder()])
def test_neutral_labels_need_the_number_of_classes(family: HasNeutral) -> None:
    batch = {"image": torch.zeros(1, 2), "label": torch.tensor([0])}
    with pytest.raises(ExpungeError, match=r"declared with [01] classes.*at least 2"):
        family.neutral(batch, torch.Generator())


# ---- the classifier, on digits ----


@cache
def digits() -> tuple[Batch, Batch]:
    """Even rows to train, odd rows to test."""
    images, labels = load_digits(return_X_y=True)
    whole = {
        "image": torch.tensor(images / 16, dtype=torch.float32),
        "label": torch.tensor(labels),
    }
    return {n: t[::2] for n, t in whole.items()}, {n: t[1::2] for n, t in whole.items()}


@cache
def trained() -> nn.Module:
    """A network trained by the family's own loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        Classifier().losses(model, digits()[0]).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model.eval()


def test_the_classifier_s_loss_teaches_digits() -> None:
    model, test = trained(), digits()[1]
    with torch.no_grad():
        family = Classifier()
        right = family.logits(model, test).argmax(1) == test["label"]
        assert float(right.double().mean()) > 0.93
        assert torch.equal(
            family.margins(model, test) > 0, log_odds(model(test["image"]), test["label"]) > 0
        )
        confident = family.margins(model, test) > 0
        assert not bool((confident & ~right).any())  # odds above one only for the winner


def test_a_module_that_answers_with_an_object_is_read_by_its_logits() -> None:
    class Answer:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Wrapped(nn.Module):
        def forward(self, pixels: Tensor) -> Answer:
            return Answer(trained()(pixels))

    test = digits()[1]
    renamed = {"pixel_values": test["image"], "label": test["label"]}
    assert torch.equal(
        Classifier(("pixel_values",)).losses(Wrapped(), renamed).values,
        Classifier().losses(trained(), test).values,
    )


def test_losses_of_a_sample_do_not_depend_on_the_rest_of_the_batch() -> None:
    test = digits()[1]
    few = {name: tensor[:3] for name, tensor in test.items()}
    whole = Classifier().losses(trained(), test).values[:3]
    assert torch.allclose(Classifier().losses(trained(), few).values, whole, atol=1e-6)


def test_the_blocks_of_a_classifier_divide_its_parameters() -> None:
    anatomy = Classifier().anatomy(trained())
    assert anatomy.head == ("2.weight", "2.bias")
    named = [name for names in anatomy.blocks.values() for name in names]
    assert named == list(parameters_of(trained()))
    normed = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert Classifier().anatomy(normed).buffers == tuple(buffers_of(normed))


# ---- the dual encoder ----


class Towers(nn.Module):
    """Linear towers that keep their prompts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.lower = nn.Linear(12, 6).requires_grad_(False)
        self.image_projection = nn.Linear(6, 5)
        self.text_projection = nn.Linear(4, 5)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("prompts", torch.randn(7, 4))

    def activation(self, picture: Tensor) -> Tensor:
        return torch.relu(self.lower(picture.flatten(1)))

    def image_features(self, activation: Tensor) -> Tensor:
        return F.normalize(self.image_projection(activation), dim=-1)

    def text_features(self) -> Tensor:
        return F.normalize(self.text_projection(self.prompts), dim=-1)


def pictures() -> Batch:
    torch.manual_seed(2)
    return {"image": torch.randn(9, 3, 2, 2), "label": torch.randint(7, (9,))}


def test_logits_are_scaled_cosines() -> None:
    towers, batch, family = Towers(), pictures(), DualEncoder(classes=7)
    assert isinstance(towers, TwoTowers)
    logits = family.logits(towers, batch).detach()
    cosines = F.cosine_similarity(
        towers.image_features(towers.activation(batch["image"])).unsqueeze(1),
        towers.text_features().unsqueeze(0),
        dim=-1,
    )
    assert torch.allclose(logits, np.exp(2.0) * cosines, atol=1e-5)
    assert float(logits.abs().max()) <= np.exp(2.0) * (1 + 1e-6)
    assert torch.allclose(
        family.losses(towers, batch).values[:, 0],
        -torch.log_softmax(logits, 1)[torch.arange(9), batch["label"]],
        atol=1e-6,
    )


def test_a_stored_activation_stands_for_its_picture_bit_by_bit() -> None:
    towers, batch, family = Towers(), pictures(), DualEncoder()
    stored = {"activation": towers.activation(batch["image"]), "label": batch["label"]}
    assert torch.equal(family.logits(towers, stored), family.logits(towers, batch))
    assert torch.equal(family.margins(towers, stored), family.margins(towers, batch))


def test_the_projections_are_the_head() -> None:
    anatomy = DualEncoder().anatomy(Towers())
    assert set(anatomy.head) == {
        f"{tower}_projection.{part}" for tower in ("image", "text") for part in ("weight", "bias")
    }
    assert anatomy.buffers == ("prompts",)


@cache
def clip() -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    """A small CLIPModel, five prompts of different lengths, and three pictures."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    shared = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = transformers.CLIPConfig(
        text_config={
            **shared,
            "vocab_size": 40,
            "max_position_embeddings": 8,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={**shared, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    model: nn.Module = transformers.CLIPModel(config).eval()
    with torch.no_grad():  # as from a checkpoint, no two prompts alike
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    tokens = torch.tensor(
        [
            [1, 7, 2, 0, 0, 0],
            [1, 9, 12, 2, 0, 0],
            [1, 30, 4, 5, 2, 0],
            [1, 8, 8, 8, 8, 2],
            [1, 2, 0, 0, 0, 0],
        ]
    )
    prompts = {"input_ids": tokens, "attention_mask": (tokens != 0).long()}
    return model, prompts, torch.randn(3, 3, 16, 16)


def test_logits_of_a_clip_model_are_its_own() -> None:
    model, prompts, images = clip()
    batch = {"image": images, "label": torch.tensor([0, 3, 4])}
    with torch.no_grad():
        own = model(pixel_values=images, **prompts).logits_per_image
        found = DualEncoder(prompts, classes=5).logits(model, batch)
    assert torch.allclose(found, own, atol=1e-5)
    assert float((own[0] - own[1]).abs().max()) > 0.01  # pictures and prompts do make a difference
    assert float((own[:, 0] - own[:, 1]).abs().max()) > 0.01


def test_a_clip_model_needs_its_prompts() -> None:
    model, _, images = clip()
    with pytest.raises(ExpungeError, match="CLIPModel keeps no prompts and the family was given"):
        DualEncoder().logits(model, {"image": images})


def test_the_head_of_a_clip_model_is_its_two_projections() -> None:
    model, prompts, _ = clip()
    anatomy = DualEncoder(prompts).anatomy(model)
    assert set(anatomy.head) == {"visual_projection.weight", "text_projection.weight"}
    named = [name for names in anatomy.blocks.values() for name in names]
    assert sorted(named) == sorted(parameters_of(model))


def test_gradients_reach_both_towers_of_a_clip_model() -> None:
    model, prompts, images = clip()
    batch = {"image": images, "label": torch.tensor([0, 3, 4])}
    loss = DualEncoder(prompts).losses(model, batch).mean()
    found = torch.autograd.grad(loss, list(parameters_of(model).values()), allow_unused=True)
    reached = {n for n, g in zip(parameters_of(model), found, strict=True) if g is not None}
    for tower in ("text_model", "vision_model", "visual_projection", "text_projection"):
        assert any(name.startswith(tower) for name in reached)
    assert "logit_scale" in reached


# ---- abilities ----


@pytest.mark.parametrize("family", [Classifier(classes=10), DualEncoder(classes=7)])
def test_both_families_have_every_ability(family: Family) -> None:
    assert isinstance(family, Family)
    for ability in ABILITIES:
        assert able(family, ability) is family


def test_a_lacking_ability_is_named() -> None:
    class Bare(Classifier):
        neutral = None  # type: ignore[assignment]

    with pytest.raises(ExpungeError, match="'classifier' lacks HasNeutral, which this work needs"):
        able(Bare(), HasNeutral)


@pytest.mark.parametrize("family", [Classifier(classes=7), DualEncoder(classes=7)])
def test_neutral_targets_leave_the_picture_and_the_batch_alone(family: Family) -> None:
    batch = pictures()
    labels = batch["label"].clone()
    changed = able(family, HasNeutral).neutral(batch, torch.Generator().manual_seed(0))
    assert torch.equal(changed["image"], batch["image"])
    assert torch.equal(batch["label"], labels)
    assert not bool((changed["label"] == labels).any())
    drawn = family.draw(batch, torch.Generator())
    assert all(torch.equal(drawn[name], batch[name]) for name in batch)
