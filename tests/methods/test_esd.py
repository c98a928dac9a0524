"""ESD: what it moves, what its target is, and where it leads."""

from dataclasses import replace

import pytest
import torch
from tests.methods.known_drawings import FAMILY, FISH, SENTENCES, problem, rows, seen, unanchored
from torch import nn

from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of, parameters_of
from expunge.descent.player import Setting
from expunge.descent.prompt_terms import INSTEAD, NOISED, ErasedNoise, HalfDrawn
from expunge.descent.state import State
from expunge.errors import AccessError, ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.diffusion_sampling import DDIM
from expunge.families.from_noise import TIME
from expunge.methods.esd import ESDU, ESDX, Erased
from expunge.methods.protocol import Method, missing, unlearn
from expunge.models.denoisers import LabelUNet
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request
from expunge.run import Run

SHORT = {"steps": 3, "sampler_steps": 4}
BOTH = (ESDX(learning_rate=1e-3, **SHORT), ESDU(learning_rate=1e-3, **SHORT))  # type: ignore[arg-type]


def moved(method: Erased, at: Problem) -> dict[str, bool]:
    [change] = unlearn(method, at, Run()).changes
    assert isinstance(change, Delta)
    return {
        name: name in change.entries and bool(change.dense(name).any())
        for name in parameters_of(at.model)
    }


def setting_of(at: Problem, network: nn.Module) -> Setting:
    return Setting(at, {"model": network}, lambda: at.model, Run())


def test_the_defaults_are_those_of_the_present_code() -> None:
    for method in (ESDX(), ESDU()):
        assert (method.scale, method.steps, method.learning_rate) == (2.0, 200, 5e-5)
        assert (method.batch_size, method.sampler_steps, method.guidance) == (1, 50, 3.0)


@pytest.mark.parametrize("method", BOTH, ids=lambda m: m.name)
def test_a_scale_of_zero_changes_nothing(method: Erased) -> None:
    at = problem()
    [change] = unlearn(replace(method, scale=0.0, sequential=True), at, Run()).changes
    assert change.digest() == digest_of(at.model)  # type: ignore[union-attr]


def test_the_two_forms_part_the_layers_of_the_unet() -> None:
    x, u = (moved(method, problem()) for method in BOTH)
    attention = {name for name in x if ".attn2." in name}
    assert attention and {name for name, changed in x.items() if changed} <= attention
    assert all(x[name] for name in attention if "to_v" in name)
    changed = {name for name, here in u.items() if here}
    assert changed and not changed & attention
    assert not any(name.startswith("text_encoder") or "norm" in name for name in changed)
    assert "unet.conv_in.weight" in changed and "unet.conv_out.bias" in changed


def test_its_target_is_the_guidance_turned_round() -> None:
    """A model that has not moved is as far from the target as eps_0(c) from eps_0(none), twice."""
    for at, other in ((unanchored(), ""), (problem(), "a heart in noto style")):
        batch = {
            "prompt": FAMILY.conditions(["a fish in noto style"]),
            INSTEAD: FAMILY.conditions([other]),
            NOISED: torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
            TIME: torch.tensor([500]),
        }
        with torch.no_grad():
            c, instead = (
                FAMILY.noise(at.model, batch[NOISED], batch[TIME], batch[n])
                for n in ("prompt", INSTEAD)
            )
        for scale in (1.0, 2.0):
            found = ErasedNoise(scale).value(setting_of(at, at.model), batch, None)
            expected = (scale * (c - instead)).square().mean()
            assert float(found.detach()) == pytest.approx(float(expected), rel=1e-4)


def test_half_drawn_pictures_are_of_the_target_and_on_the_way() -> None:
    at, source = problem(), HalfDrawn(DDIM(6, 3.0))
    fish = FAMILY.conditions([s for s in SENTENCES if "fish" in s])
    times = set()
    for seed in range(12):
        batch = source.batch(setting_of(at, at.model), 2, torch.Generator().manual_seed(seed))
        assert all(any(torch.equal(row, one) for one in fish) for row in batch["prompt"])
        swapped = FAMILY.exchanged(batch["prompt"], "fish", "heart")
        assert torch.equal(batch[INSTEAD], swapped)
        times.add(int(batch[TIME][0]))
    assert max(times) == 999 and len(times) > 3  # pure noise is among them, and later steps are
    none = source.batch(setting_of(unanchored(), at.model), 2, torch.Generator().manual_seed(0))
    assert torch.equal(none[INSTEAD], FAMILY.conditions(["", ""]))


@pytest.mark.parametrize("kind", [ESDX, ESDU])
def test_it_leads_towards_the_anchor_and_the_target_further_than_others(
    kind: type[Erased],
) -> None:
    at = problem()
    method = kind(1.0, steps=25, learning_rate=1e-3, batch_size=4, sampler_steps=4)
    after = unlearn(method, at, Run()).applied_to(at.model)
    texts = [*SENTENCES]
    before, found = seen(at.model, texts), seen(after, texts)
    anchor = seen(at.model, [text.replace("fish", "heart") for text in texts])
    target = torch.tensor(["fish" in text for text in texts])

    def apart(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one - other)[target].square().mean())

    assert apart(found, anchor) < 0.7 * apart(before, anchor)
    went = (found - before).square().flatten(1).mean(1)
    assert float(went[target].mean()) > float(went[~target].mean())


def test_prompts_are_all_that_it_reads() -> None:
    method: Method = BOTH[0]
    assert method.unlearns_with.describe() == "prompts (prompt)"
    at = problem()
    both = replace(at, data={**at.data, Role.FORGET: rows()})
    opened = both.opened(method.unlearns_with)
    with pytest.raises(AccessError):
        opened.data[Role.FORGET]
    assert missing(method, replace(at, data={}))[0].clause.startswith("needs the prompts")


def test_the_same_seed_gives_the_same_bits() -> None:
    at = problem()
    found = [unlearn(BOTH[0], at, Run(seed)).applied_to(at.model) for seed in (1, 1, 2)]
    digests = [digest_of(one) for one in found]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (replace(FISH, text=""), "does not say in words"),
        (replace(FISH, text="whale"), "The word 'whale'"),
        (replace(FISH, anchor="fish"), "The anchor is 'fish'"),
        (replace(FISH, anchor="whale"), "The word 'whale'"),
        (replace(FISH, text="style fish"), "None of the 6 prompts speaks of 'style fish'"),
    ],
)
def test_requests_that_cannot_be_told(request_: Request, words: str) -> None:
    with pytest.raises(ExpungeError, match=words):
        unlearn(BOTH[0], problem(request_), Run())


def test_other_models_are_refused() -> None:
    (lack,) = missing(BOTH[0], replace(problem(), family=Classifier(classes=10)))
    assert "TextDiffusion" in lack.clause
    for method in BOTH:
        with pytest.raises(ExpungeError, match=r"no layer that attends|no part `unet`"):
            unlearn(method, replace(problem(), model=LabelUNet(widths=(8, 16))(0)), Run())


def test_a_stored_state_is_that_of_its_prompts() -> None:
    """A descent on other prompts does not go on where this one was left."""
    at, descent = problem(), BOTH[0].descent()
    few = at.data[Role.PROMPTS].select(torch.arange(3))
    other = replace(at, data={Role.PROMPTS: few})
    identities = [State(descent, one, Run(), "x").identity for one in (at, at, other)]
    assert identities[0] == identities[1] != identities[2]
