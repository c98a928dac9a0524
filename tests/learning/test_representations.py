"""Autoencoders of embeddings: their loss, their unit, and what the sigmoid cannot explain."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from expunge.benchmarks.shipped import Work
from expunge.changes.weights import stored_tensors
from expunge.descent.embedding_terms import squashed
from expunge.errors import ExpungeError
from expunge.families.heads import embeddings_of
from expunge.learning.representations import Codes, Explainer
from expunge.models.representation_vae import RepresentationVae
from expunge.recipe import Role
from expunge.requests import Rows
from expunge.run import Run

SHORT = Explainer(8, 1, 200)


@pytest.fixture(scope="module")
def embeddings(digits_work: Work, digits_model: nn.Module) -> dict[str, Tensor]:
    """Of the threes and of the others."""
    train = digits_work.data[Role.TRAIN]
    found = embeddings_of(digits_work.recipe.family, digits_model, train, Run())
    threes = torch.zeros(len(train), dtype=torch.bool)
    threes[Rows("label", ("3",)).rows(digits_work.table)] = True
    return {"threes": found[threes], "others": found[~threes]}


def test_the_loss_is_the_squared_error_and_the_weighted_divergence(
    embeddings: dict[str, Tensor],
) -> None:
    some = embeddings["threes"][:12]
    vae = RepresentationVae(torch.Generator().manual_seed(1), some.shape[1], 4, 7.0, False)
    family = Codes(4, 0.025)
    batch = family.draw({"embedding": some}, torch.Generator().manual_seed(2))
    with torch.no_grad():
        mean, log_variance = vae.encoded(some / 7)
        deviation = log_variance.exp().sqrt()
        error = (vae.decoder(mean + deviation * batch["noise"]) - some / 7).square().sum(1)
        apart = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1)
        found = family.losses(vae, batch).sums()
    assert torch.allclose(found, error + 0.025 * apart, atol=1e-5)


def test_it_explains_what_it_was_fitted_to_better_than_anything_else(
    embeddings: dict[str, Tensor],
) -> None:
    vae = SHORT.fit(embeddings["threes"], Run(), "threes")
    with torch.no_grad():
        own, other = (vae.errors(embeddings[name]).mean() for name in ("threes", "others"))
    assert own < 0.2 < other


def test_the_unit_of_the_embeddings_does_not_matter(embeddings: dict[str, Tensor]) -> None:
    found = [SHORT.fit(s * embeddings["threes"], Run(), "threes") for s in (1.0, 8.0)]
    with torch.no_grad():
        one, eight = (
            v.errors(s * embeddings["others"]) for v, s in zip(found, (1.0, 8.0), strict=True)
        )
    assert torch.allclose(one, eight, rtol=1e-3, atol=1e-4)


def test_a_sigmoid_leaves_most_of_an_embedding_unexplained(embeddings: dict[str, Tensor]) -> None:
    """These have a root mean square length of about 19: an answer between 0 and 1 in each of their
    96 numbers explains little, and the squashed error is at its end on both sides."""
    vae = replace(SHORT, as_published=True).fit(embeddings["threes"], Run(), "threes")
    whole = float(embeddings["threes"].square().sum(1).mean())
    left = vae.errors(embeddings["threes"]).detach().requires_grad_(True)
    [slope] = torch.autograd.grad(squashed(left).sum(), left)
    assert float(left.detach().mean()) > 0.3 * whole
    assert float(slope.max()) < 1e-2


def test_it_is_restored_from_its_tensors_and_the_same_seed_gives_the_same_bits(
    embeddings: dict[str, Tensor],
) -> None:
    fits = [SHORT.fit(embeddings["threes"], Run(s), "threes") for s in (3, 3, 4)]
    restored = SHORT.restored(dict(stored_tensors(fits[0])))
    with torch.no_grad():
        one, again, other, back = (vae.errors(embeddings["others"]) for vae in (*fits, restored))
    assert torch.equal(one, again)
    assert torch.equal(one, back)
    assert not torch.equal(one, other)


def test_rows_that_say_nothing_are_refused() -> None:
    with pytest.raises(ExpungeError, match="All embeddings are zero"):
        SHORT.fit(torch.zeros(5, 3), Run(), "nothing")
    broken = torch.ones(5, 3)
    broken[2, 1] = torch.nan
    with pytest.raises(ExpungeError, match=r"1 of 5 embeddings .* finite ones are expected"):
        SHORT.fit(broken, Run(), "broken")
