"""The face embedder: its blocks, and that it computes what its publisher's program computes."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from expunge.data import catalogue
from expunge.errors import IntegrityError
from expunge.models import face_embedder
from expunge.models.dcgan import NOISE, Generator
from expunge.models.face_embedder import FaceEmbedder, Residual, ResidualDown
from expunge.models.published import FILE
from expunge.storage import write_tensors

REFERENCE = (
    -0.023220501840114594, 0.10119878500699997, 0.010262705385684967, -0.04768314212560654,
    -0.055156391113996506, -0.07160711288452148, -0.04308415204286575, -0.01881350204348564,
)  # fmt: skip
"""The first numbers of the embedding of :func:`pattern` that face-api 1.7.15 computed (in Node,
with its processor backend)."""
REFERENCE_LENGTH = 1.3269485235214233


def pattern() -> torch.Tensor:
    """A picture that is the same everywhere: (1, 3, 150, 150), whole numbers from 0 to 255."""
    row = torch.arange(150)[:, None, None]
    column = torch.arange(150)[None, :, None]
    channel = torch.arange(1, 4)
    values = (row * row + 3 * column * channel + row * column) // 16 % 256
    return values.permute(2, 0, 1)[None].float()


def zeroed(block: torch.nn.Module) -> torch.nn.Module:
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    return block


def test_a_block_without_weights_is_its_shortcut() -> None:
    activation = torch.rand(2, 4, 6, 9)
    assert torch.equal(zeroed(Residual(4))(activation), activation)
    down = zeroed(ResidualDown(4, 6))(activation)
    assert torch.equal(down[:, :4], F.avg_pool2d(activation, 2))
    assert int(down[:, 4:].count_nonzero()) == 0


@pytest.mark.parametrize(("side", "seen"), [(8, 3), (9, 4)])
def test_the_smaller_branch_is_filled_with_zeros_below_and_on_the_right(
    side: int, seen: int
) -> None:
    block = ResidualDown(1, 2)
    for parameter in block.parameters():
        torch.nn.init.ones_(parameter)
    found = block(torch.zeros(1, 1, side, side))[0, 1]
    assert found.shape == (4, 4)
    assert bool((found[:seen, :seen] > 0).all())
    assert int(found.count_nonzero()) == seen**2


def test_the_network_has_the_published_size_and_refuses_other_weights(tmp_path: Path) -> None:
    network = FaceEmbedder()
    assert sum(p.numel() for p in network.parameters()) == 5_614_592
    assert len(network.state_dict()) == 117
    write_tensors(tmp_path / FILE, {"fc.weight": torch.zeros(1)})
    with pytest.raises(IntegrityError, match=r"1 tensors .* not the .* of FaceEmbedder"):
        FaceEmbedder.load(tmp_path)


@pytest.mark.slow
def test_it_computes_what_the_publishers_program_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = catalogue.fetched("face-embedder")
    assert prepared.digest == prepared.entry.digest
    network = FaceEmbedder.load(prepared.folder)
    monkeypatch.setattr(face_embedder, "RANGE", 255.0)
    with torch.no_grad():
        embedding = network(pattern())[0]
    torch.testing.assert_close(embedding[:8], torch.tensor(REFERENCE), atol=1e-5, rtol=0)
    assert float(embedding.norm()) == pytest.approx(REFERENCE_LENGTH, abs=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_a_mirrored_face_is_nearest_to_itself() -> None:
    network = FaceEmbedder.load(catalogue.fetched("face-embedder").folder)
    generator = Generator.load(catalogue.fetched("dcgan-faces").folder)
    drawn = generator(torch.randn(40, NOISE, generator=torch.Generator().manual_seed(0)))
    faces = F.interpolate((drawn + 1) * 127.5, size=(150, 150), mode="bilinear")
    plain, mirrored = network(faces), network(faces.flip(3))
    distances = torch.cdist(mirrored, plain)
    assert distances.argmin(dim=1).tolist() == list(range(40))
    others = torch.pdist(plain)
    assert float(distances.diag().median()) < 0.7 * float(others.median())  # 0.30 and 0.54

    untrained = FaceEmbedder()
    missed = torch.cdist(untrained(faces.flip(3)), untrained(faces)).argmin(dim=1)
    assert int((missed == torch.arange(40)).sum()) < 30
