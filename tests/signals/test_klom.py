"""Facts about KLoM: its bounds, values from numpy's histograms, the floor, what it refuses."""

import math
import sys

import numpy as np
import numpy.typing as npt
import pytest
import torch
from populations import population
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import Binning, binned_divergence, klom, klom_by_set
from expunge.signals.klom import Closeness

CAP = math.log(1e5)


def normal(seed: int, models: int = 100, samples: int = 50, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shift + torch.randn(models, samples, generator=generator)


def by_numpy(p: npt.NDArray[np.float32], q: npt.NDArray[np.float32]) -> float:
    sides = [np.clip(side.astype(np.float64), -100, 100) for side in (p, q)]
    bounds = (min(side.min() for side in sides), max(side.max() for side in sides))
    a, b = (np.histogram(side, bins=20, range=bounds)[0] / len(side) for side in sides)
    return float(sum(x * math.log(x / max(y, 1e-5)) for x, y in zip(a, b, strict=True) if x > 0))


def test_a_population_against_itself_in_another_order_is_at_zero() -> None:
    margins = normal(0)
    shuffled = margins[torch.randperm(100, generator=torch.Generator().manual_seed(1))]
    assert klom(population(margins, "u"), population(shuffled, "o")).abs().max() < 1e-12
    constant = torch.full((30, 3), 2.5)
    assert klom(population(constant, "u"), population(constant, "o")).tolist() == [0, 0, 0]


@pytest.mark.parametrize("far", [50.0, -50.0, 1e6, -math.inf, math.inf])
def test_populations_far_apart_are_at_the_cap_on_either_side(far: float) -> None:
    unlearned = torch.full((100, 2), far)
    found = klom(population(unlearned, "u"), population(normal(0, samples=2), "o"))
    assert found.tolist() == pytest.approx([CAP, CAP])
    assert pytest.approx(11.513, abs=1e-3) == CAP


@pytest.mark.parametrize("shift", [-3.0, -0.5, 0.0, 1.0, 4.0])
def test_shifted_populations_have_the_values_of_numpy_histograms(shift: float) -> None:
    p, q = normal(1, shift=shift), normal(2)
    p[0, 0], q[0, 1] = 1e4, -1e4
    by_hand = [by_numpy(p[:, j].numpy(), q[:, j].numpy()) for j in range(p.shape[1])]
    assert klom(population(p, "u"), population(q, "o")).tolist() == pytest.approx(by_hand)


def test_two_bins_by_hand_and_the_direction() -> None:
    found, oracles = torch.tensor([[0.0], [0.0], [0.0], [1.0]]), torch.tensor([[0.0, 0, 1, 1]]).T
    binning = Binning(bins=2, least=2)
    there = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    back = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert binned_divergence(found, oracles, binning).item() == pytest.approx(there)
    assert binned_divergence(oracles, found, binning).item() == pytest.approx(back)


def test_chunks_and_the_order_of_samples_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = normal(1), normal(2)
    whole = binned_divergence(p, q)
    monkeypatch.setattr(sys.modules["expunge.signals.klom"], "NUMBERS_AT_ONCE", 600)
    assert torch.equal(binned_divergence(p, q), whole)
    assert torch.equal(binned_divergence(p.flip(1), q.flip(1)), whole.flip(0))


def simulated() -> dict[str, Closeness]:
    """Originals know the forget samples x0 ... x19; unlearned models know them half as well."""
    forget = torch.arange(200) < 20
    oracles, others = (population(normal(s, samples=200), f"o{s}") for s in (1, 2))
    original = population(normal(3, samples=200) + 6 * forget, "original")
    unlearned = population(normal(4, samples=200) + forget, "unlearned")
    names = oracles.samples
    sets = {"forget": names[:20], "retain": names[20:]}
    return klom_by_set(unlearned, oracles, others, sets, original)


def test_the_floor_lies_below_unlearned_and_that_below_original_on_forget_samples_only() -> None:
    found = simulated()
    assert found["forget"].mean.original is not None
    for reading in (found["forget"].mean, found["forget"].p95):
        assert reading.original is not None
        assert reading.oracle < 0.6 * reading.value < 0.6 * reading.original
    assert 8 < found["forget"].mean.original < CAP
    retain = found["retain"].mean
    assert retain.value == pytest.approx(retain.oracle, rel=0.15)
    assert 0.2 < retain.oracle < 0.5
    assert found["retain"].p95.value == np.quantile(found["retain"].values.numpy(), 0.95)
    assert len(found["forget"].values) == 20


def test_fewer_models_raise_the_floor() -> None:
    floors = [float(binned_divergence(normal(1, n), normal(2, n)).mean()) for n in (400, 100, 25)]
    assert 2.5 * floors[0] < floors[1] < floors[2] / 2.5


def test_counts_that_do_not_fit_are_said() -> None:
    with pytest.raises(ExpungeError, match=r"got 30 models and 25 oracles.* 5 more oracles"):
        klom(population(normal(0, 30), "u"), population(normal(1, 25), "o"))
    with pytest.raises(ExpungeError, match=r"got 8 models and 8 oracles; .* at least 20 of each"):
        klom(population(normal(0, 8), "u"), population(normal(1, 8), "o"))
    few = klom(
        population(normal(0, 8), "u"), population(normal(1, 8), "o"), Binning(bins=5, least=8)
    )
    assert bool(few.isfinite().all())


def test_other_samples_shared_oracles_and_empty_sets_are_refused() -> None:
    found, oracles = population(normal(0), "u"), population(normal(1), "o")
    with pytest.raises(ExpungeError, match="other samples"):
        klom(found, oracles.of_samples(oracles.samples[::-1]))
    with pytest.raises(ExpungeError, match=r"'o 0' on both sides \(100 are shared\); 100 further"):
        klom_by_set(found, oracles, oracles, {"forget": oracles.samples})
    with pytest.raises(ExpungeError, match="no sample for the set 'forget'"):
        klom_by_set(found, oracles, population(normal(2), "p"), {"forget": ()})
    with pytest.raises(ExpungeError, match="at least 2 bins"):
        Binning(bins=1)
