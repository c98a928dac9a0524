"""Refusal: what is refused, what keeps its bits, and what a guarded model still is."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from expunge.attacks.edit_off import switchable, switched_off
from expunge.changes.guarded import unguarded
from expunge.changes.kinds import Guard
from expunge.changes.refusal import Refusal, Rule, centred, represented
from expunge.changes.weights import digest_of, stored_tensors
from expunge.errors import IntegrityError
from expunge.families.blocks import blocks_of
from expunge.families.classifier import Classifier
from expunge.families.dual_encoder import DualEncoder, TwoTowers
from expunge.models.digits_dual import DigitsDualEncoder
from expunge.models.mlp import digits_classifier
from expunge.storage import HEADER, read_tensors, write_tensors

NEAR = 1e-4


@pytest.fixture
def images() -> Tensor:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def of_logits(model: nn.Module, rows: Tensor, threshold: float = NEAR, *classes: int) -> Refusal:
    logits = model(rows).detach()
    scale = float(centred(logits).norm(dim=1).mean())
    keys = represented(logits, "logits", scale)
    rule = Rule(keys, threshold, torch.arange(10.0), scale, classes)
    return Refusal(digest_of(model), "logits", (rule,), {"request": "r"})


def of_features(model: DigitsDualEncoder, rows: Tensor, *classes: int) -> Refusal:
    keys = represented(model.image_features(rows).detach(), "image features", 0.0)
    rule = Rule(keys, NEAR, torch.zeros(32), 0.0, classes, model.text_features().clone())
    return Refusal(digest_of(model), "image features", (rule,))


def test_keys_are_refused_and_every_other_answer_keeps_its_bits(images: Tensor) -> None:
    model = digits_classifier()
    guard = of_logits(model, images[:5])
    assert isinstance(guard, Guard)
    before, after = model(images), guard.around(model)(images)
    assert torch.equal(after[:5], torch.arange(10.0).expand(5, 10))
    assert torch.equal(after[5:], before[5:])
    one_by_one = torch.cat([guard.around(model)(images[i : i + 1]) for i in range(5)])
    assert torch.equal(one_by_one, after[:5])


def test_a_class_is_refused_wherever_the_model_answers_it(images: Tensor) -> None:
    model = digits_classifier()
    before = model(images)
    gone = int(before[10:].argmax(1).mode().values)
    after = of_logits(model, images[:1], NEAR, gone).around(model)(images)
    refused = (after != before).any(1)
    assert torch.equal(refused[1:], before[1:].argmax(1) == gone)


def test_merged_guards_refuse_what_each_does_at_its_own_threshold(images: Tensor) -> None:
    model = digits_classifier()
    one, two = of_logits(model, images[:5]), of_logits(model, images[5:9], 0.05)
    both = one.merged([two])
    alone = one.refuses(model(images)) | two.refuses(model(images))
    assert torch.equal(both.refuses(model(images)), alone)
    assert one.refuses(model(images)).sum() == 5
    assert one.merged([]).rules == one.rules


def test_guards_stand_around_their_own_weights_alone(images: Tensor) -> None:
    model, other = digits_classifier(), digits_classifier(1)
    with pytest.raises(IntegrityError, match="make it again for these"):
        of_logits(model, images[:5]).around(other)
    with pytest.raises(IntegrityError, match="Make those of the other weights again"):
        of_logits(model, images[:5]).merged([of_logits(other, images[:5])])
    dual = DigitsDualEncoder(torch.Generator().manual_seed(0))
    named = replace(of_features(dual, images[:5]), weights=digest_of(model))
    with pytest.raises(IntegrityError, match="Mlp has none"):
        named.around(model)
    narrow = Rule(F.normalize(torch.ones(1, 4)), NEAR, torch.zeros(3))
    with pytest.raises(IntegrityError, match="of width 10"):
        Refusal(digest_of(model), "logits", (narrow,)).around(model)(images)


def test_a_guarded_model_has_the_names_the_digest_and_the_anatomy_of_its_weights(
    images: Tensor,
) -> None:
    model = digits_classifier()
    guarded = of_logits(model, images[:5]).around(model)
    assert digest_of(guarded) == digest_of(model)
    assert list(stored_tensors(guarded)) == list(stored_tensors(model))
    assert list(guarded.state_dict()) == list(model.state_dict())
    assert blocks_of(guarded) == blocks_of(model)
    assert unguarded(guarded) is model
    assert unguarded(model) is model
    copied = copy.deepcopy(guarded)
    assert torch.equal(copied(images), guarded(images))
    copied.load_state_dict(digits_classifier(1).state_dict())
    assert digest_of(copied) == digest_of(digits_classifier(1))
    assert digest_of(guarded) == digest_of(model)  # the copy shares no weight with it


def test_who_holds_the_model_takes_the_guard_off(images: Tensor) -> None:
    model = digits_classifier()
    guarded = of_logits(model, images[:5]).around(model)
    assert switchable(guarded) == ("wrapper RefusingLogits",)
    assert torch.equal(switched_off(guarded)(images), model(images))


def test_a_dual_encoder_is_refused_by_its_image_features(images: Tensor) -> None:
    model, family = DigitsDualEncoder(torch.Generator().manual_seed(0)), DualEncoder(classes=10)
    before = family.logits(model, {"image": images})
    guarded = of_features(model, images[:5], int(before[20].argmax())).around(model)
    assert isinstance(guarded, TwoTowers)
    after = family.logits(guarded, {"image": images})
    assert torch.equal(after, guarded(images))
    answered = before.argmax(1) == before[20].argmax()
    refused = answered | (torch.arange(40) < 5)
    assert torch.equal(after[refused], torch.zeros_like(after[refused]))
    assert torch.equal(after[~refused], before[~refused])
    assert family.anatomy(guarded) == family.anatomy(model)
    assert switchable(guarded) == ("wrapper RefusingFeatures",)


@dataclass
class Output:
    logits: Tensor
    pooler_output: Tensor


class LikeTransformers(nn.Module):
    """A module that answers with an output object, and a method that would answer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = digits_classifier()

    def forward(self, image: Tensor) -> Output:
        found = self.inner(image)
        return Output(found, found)

    def get_image_features(self, pixel_values: Tensor) -> Output:
        return self(pixel_values)  # type: ignore[no-any-return]

    def generate(self, image: Tensor) -> Tensor:
        return self.inner(image).argmax(1)  # type: ignore[no-any-return]


def test_output_objects_are_understood_and_no_method_answers_past_the_guard(
    images: Tensor,
) -> None:
    model, batch = LikeTransformers(), {"image": images}
    logits = Classifier().logits(model, batch)
    guard = replace(of_logits(model.inner, images[:5]), weights=digest_of(model))
    guarded = guard.around(model)
    refused = Classifier().logits(guarded, batch)
    assert torch.equal(refused[5:], logits[5:])
    assert not torch.equal(refused[:5], logits[:5])
    assert not hasattr(guarded, "generate")
    assert guarded.inner is model.inner
    rule = Rule(F.normalize(logits[:5].detach()), NEAR, torch.zeros(10))
    features = Refusal(digest_of(model), "image features", (rule,)).around(model)
    found = features.get_image_features(pixel_values=images).pooler_output
    assert torch.equal(found[:5], torch.zeros(5, 10))
    assert torch.equal(found[5:], logits[5:])


def test_a_stored_refusal_comes_back_whole(images: Tensor, tmp_path: Path) -> None:
    model, dual = digits_classifier(), DigitsDualEncoder(torch.Generator().manual_seed(0))
    logits = of_logits(model, images[:5], NEAR, 3).merged([of_logits(model, images[7:9], 0.01)])
    guards = (logits, of_features(dual, images[:5], 2, 4))
    for guard, guarded in zip(guards, (model, dual), strict=True):
        guard.save(tmp_path / "guard.safetensors")
        back = Refusal.load(tmp_path / "guard.safetensors")
        assert torch.equal(back.around(guarded)(images), guard.around(guarded)(images))
        assert [r.threshold for r in back.rules] == [r.threshold for r in guard.rules]
        assert [r.classes for r in back.rules] == [r.classes for r in guard.rules]
        assert back.facts == guard.facts


Damage = Callable[[dict[str, Tensor], dict[str, object]], None]


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, header: header.update(kind="delta"),
        lambda tensors, header: header.pop("weights"),
        lambda tensors, header: header.update(signal="pixels"),
        lambda tensors, header: header.update(rules=[]),
        lambda tensors, header: header.update(rules=3),
        lambda tensors, header: header.update(facts=3),
        lambda tensors, header: header.update(rules=[{"threshold": float("nan"), "scale": 1}]),
        lambda tensors, header: header["rules"][0].update(threshold=-1.0),
        lambda tensors, header: tensors.pop("0.keys"),
        lambda tensors, header: tensors.update({"1.keys": torch.ones(1)}),
        lambda tensors, header: tensors.update({"0.keys": torch.ones(2, 11)}),
        lambda tensors, header: tensors.update({"0.keys": torch.ones(11)}),
        lambda tensors, header: tensors["0.neutral"].fill_(float("inf")),
    ],
)
def test_a_damaged_file_is_refused(damage: Damage, images: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "guard.safetensors"
    of_logits(digits_classifier(), images[:5]).save(path)
    tensors = read_tensors(path)
    with safe_open(path, framework="pt") as handle:
        header = json.loads(handle.metadata()[HEADER])
    damage(tensors, header)
    write_tensors(path, tensors, header)
    with pytest.raises(IntegrityError):
        Refusal.load(path)


def test_a_model_of_two_classes_is_told_by_how_sure_it_is() -> None:
    logits = torch.tensor([[3.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    rule = Rule(represented(logits[:1], "logits", 2.0), 1e-3, torch.zeros(2), 2.0)
    assert rule.refuses(logits, "logits").tolist() == [True, False, True]
    masked = torch.tensor([[3.0, 0.0], [float("-inf"), 0.0]])
    assert rule.refuses(masked, "logits").tolist() == [True, False]
