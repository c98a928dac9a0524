"""Populations on disk: trained once, gone on with after a stop, answers of the right rows."""

from pathlib import Path

import pytest
import torch
from torch import nn

from expunge.audit.populations import KeptPopulation, read_answers
from expunge.benchmarks.shipped import digits_classifier_work
from expunge.data.samples import Samples
from expunge.descent.optimisers import SGD
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.classifier import Classifier
from expunge.learning.population import Population, halves, members
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import Mlp
from expunge.recipe import Recipe, Role
from expunge.run import Run

FEW = 40


def network(seed: int) -> nn.Module:
    return Mlp(torch.Generator().manual_seed(seed), (64, 8, 10))


@pytest.fixture(scope="module")
def digits() -> Samples:
    return digits_classifier_work().data[Role.TRAIN].select(torch.arange(FEW))


def kept(digits: Samples, folder: Path, epochs: int = 1) -> KeptPopulation:
    recipe = Recipe(network, Classifier(classes=10), Plain(epochs, 16, SGD(0.1)))
    return KeptPopulation(Population(recipe, digits, Run(0)), folder)


def test_members_are_trained_once_and_a_stopped_population_goes_on(
    digits: Samples, tmp_path: Path
) -> None:
    wanted, counts = members(halves(4, FEW, seed=0)), list[tuple[int, int]]()
    those = kept(digits, tmp_path)
    first = those.models(wanted[:2], engine="one by one")
    again = those.models(wanted, lambda done, of: counts.append((done, of)), "one by one")
    assert counts == [(3, 4), (4, 4)]
    for one, other in zip(first, again, strict=False):
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    file = sorted((tmp_path / "models").iterdir())[0]
    file.write_bytes(b"damaged")
    those.models(wanted, lambda done, of: counts.append((done, of)), "one by one")
    assert counts[2:] == [(4, 4)]


def test_another_recipe_is_another_population(digits: Samples, tmp_path: Path) -> None:
    wanted = members(halves(2, FEW, seed=0))
    short = kept(digits, tmp_path).models(wanted, engine="one by one")
    longer = kept(digits, tmp_path, epochs=2).models(wanted, engine="one by one")
    assert len(list((tmp_path / "models").iterdir())) == 4
    assert not torch.equal(next(short[0].parameters()), next(longer[0].parameters()))


def test_answers_are_kept_and_belong_to_their_rows(digits: Samples, tmp_path: Path) -> None:
    wanted, those = members(halves(2, FEW, seed=0)), kept(digits, tmp_path)
    found = those.predictions(wanted, digits, engine="one by one")
    assert found.logits.shape == (2, FEW, 10)
    assert found.models == ("0", "1")
    for file in (tmp_path / "models").iterdir():
        file.unlink()  # nothing has to be asked again
    assert torch.equal(those.predictions(wanted, digits).logits, found.logits)
    [path] = (tmp_path / "answers").iterdir()
    with pytest.raises(ExpungeError, match="answers on other rows than the 5"):
        read_answers(path, ["0", "1"], digits.select(torch.arange(5)))
    with pytest.raises(ExpungeError, match="answers of 2 models and 3 names"):
        read_answers(path, ["0", "1", "2"], digits)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(IntegrityError):
        read_answers(path, ["0", "1"], digits)


def test_a_member_is_wanted_once(digits: Samples, tmp_path: Path) -> None:
    [one, _] = members(halves(2, FEW, seed=0))
    with pytest.raises(ExpungeError, match="2 members are wanted and 1 of them differ"):
        kept(digits, tmp_path).models([one, one])
