"""Conditional diffusion models: schedule, noising, conditions, guidance, samplers."""

import pytest
import torch
from torch import Tensor, nn

from expunge.data import digits, own
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss, HasNoise, HasOutputs
from expunge.families.diffusion import DROPPED, LabelDiffusion, NoiseSchedule, TextDiffusion
from expunge.families.diffusion_sampling import DDIM, ClassifierFree, OneStep
from expunge.families.from_noise import NOISE, TIME
from expunge.families.prompts import PromptTokens
from expunge.models.denoisers import LabelUNet, SmallTextToImage
from expunge.run import Run

NAMES = tuple("0123456789")
FAMILY = LabelDiffusion(classes=NAMES)
WORDS = ("a", "red", "blue", "cat", "sea", "lion")
TOKENS = PromptTokens(WORDS, length=8)
TEXT = TextDiffusion((3, 8, 8), tokens=TOKENS)


def rows(count: int = 32) -> Batch:
    table = digits.load("train")
    return own.samples(table, digits.tensors(table)).batch(torch.arange(count))


class Exact(nn.Module):
    """The noise that the best network sees where label c draws N(mean_c, deviation^2) pixels."""

    def __init__(self, means: tuple[float, ...], deviation: float) -> None:
        super().__init__()
        self.register_buffer("means", torch.tensor(means))
        self.deviation = deviation

    def forward(self, noised: Tensor, time: Tensor, label: Tensor) -> Tensor:
        factor, noise = (v.view(-1, 1, 1, 1) for v in FAMILY.schedule.marginal(time))
        mean = self.get_buffer("means")[label].view(-1, 1, 1, 1)
        spread = factor.square() * self.deviation**2 + noise.square()
        return noise * (noised - factor * mean) / spread


def test_schedule_is_that_of_the_library() -> None:
    from diffusers import DDPMScheduler

    for betas in ("linear", "scaled_linear"):
        ours = NoiseSchedule(betas=betas, first=0.00085, last=0.012)
        its = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=betas)
        torch.testing.assert_close(ours.kept, its.alphas_cumprod, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prediction": "v_prediction"}, "prediction type 'v_prediction' is not supported"),
        ({"betas": "squaredcos_cap_v2"}, "schedule 'squaredcos_cap_v2' is not supported"),
        ({"first": 0.5, "last": 0.1}, "rising numbers"),
        ({"steps": 1}, "at least 2 timesteps"),
    ],
)
def test_unsupported_schedules_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ExpungeError, match=words):
        NoiseSchedule(**change)  # type: ignore[arg-type]


def test_a_drawn_batch_is_fixed_and_the_drawn_noise_comes_back() -> None:
    first = FAMILY.draw(rows(), torch.Generator().manual_seed(5))
    again = FAMILY.draw(rows(), torch.Generator().manual_seed(5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    model = LabelUNet(widths=(8, 16))(0)
    x = FAMILY.noised(model, first)
    clean = FAMILY.clean(x, first[TIME], first[NOISE])
    early = first[TIME] < 500  # later there is next to nothing left of the picture
    torch.testing.assert_close(clean[early], 2 * first["image"][early] - 1, rtol=0, atol=1e-3)


def test_abilities_and_loss() -> None:
    assert isinstance(FAMILY, HasLoss) and isinstance(FAMILY, HasNoise)
    assert isinstance(FAMILY, HasOutputs)
    model = LabelUNet(widths=(8, 16))(0)
    batch = FAMILY.draw(rows(8), torch.Generator().manual_seed(0))
    found, drawn = FAMILY.noises(model, batch)
    losses = FAMILY.losses(model, batch).means()
    torch.testing.assert_close(losses, (found - drawn).square().flatten(1).mean(1))


def test_left_out_conditions_are_none() -> None:
    model = LabelUNet(widths=(8, 16))(0)
    batch = FAMILY.draw(rows(8), torch.Generator().manual_seed(0))
    told, out = batch["label"], torch.ones(8, dtype=torch.bool)
    x = FAMILY.noised(model, batch)
    without = FAMILY.noise(model, x, batch[TIME], torch.full((8,), 10))
    assert torch.equal(FAMILY.outputs(model, {**batch, DROPPED: out}), without)
    kept = FAMILY.outputs(model, {**batch, DROPPED: ~out})
    assert torch.equal(kept, FAMILY.noise(model, x, batch[TIME], told))
    assert not torch.allclose(kept, without)
    share = torch.cat(
        [FAMILY.draw(rows(256), torch.Generator().manual_seed(s))[DROPPED] for s in range(8)]
    )
    assert 0.08 < float(share.float().mean()) < 0.12


def test_labels_are_conditions() -> None:
    labels = FAMILY.conditions(["3", "", "9"])
    assert labels.tolist() == [3, 10, 9]
    assert FAMILY.speaking(labels, "3").tolist() == [True, False, False]
    assert FAMILY.exchanged(labels, "3", "7").tolist() == [7, 10, 9]
    assert FAMILY.exchanged(labels, "3", "").tolist() == [10, 10, 9]
    with pytest.raises(ExpungeError, match="'ten', which it does not know"):
        FAMILY.conditions(["ten"])
    with pytest.raises(ExpungeError, match="another concept is expected"):
        FAMILY.exchanged(labels, "3", "3")


def test_wrong_size_and_missing_condition_are_told() -> None:
    batch = rows(4)
    with pytest.raises(ExpungeError, match=r"of \(1, 16, 16\).*Resize"):
        LabelDiffusion((1, 16, 16), classes=NAMES).draw(batch, torch.Generator())
    with pytest.raises(ExpungeError, match="A label is expected with every picture"):
        FAMILY.condition({"image": batch["image"]})
    with pytest.raises(ExpungeError, match="at least 0 and less than 1"):
        LabelDiffusion(drop=1.0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_draws_the_distribution_of_each_condition(eta: float) -> None:
    model, told = Exact((-0.3, 0.2), 0.2), torch.tensor([0, 1]).repeat(400)
    sampler = DDIM(500, guidance=1, eta=eta)
    found = 2 * sampler.drawn(FAMILY, model, told, Run(), "exact") - 1
    for label, mean in ((0, -0.3), (1, 0.2)):
        its = found[told == label]
        assert abs(float(its.mean()) - mean) < 0.01
        assert abs(float(its.std()) - 0.2) < 0.02


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_the_bank_of_noise_is_fixed_by_name_and_seed(eta: float) -> None:
    model, told = Exact((-0.5, 0.4), 0.1), torch.zeros(10, dtype=torch.int64)
    sampler = DDIM(4, guidance=1, at_once=3, eta=eta)
    first = sampler.drawn(FAMILY, model, told, Run(seed=1), "a")
    assert torch.equal(first, sampler.drawn(FAMILY, model, told, Run(seed=1), "a"))
    assert not torch.equal(first, sampler.drawn(FAMILY, model, told, Run(seed=1), "b"))
    assert not torch.equal(first, sampler.drawn(FAMILY, model, told, Run(seed=2), "a"))
    whole = DDIM(4, guidance=1, eta=eta).drawn(FAMILY, model, told, Run(seed=1), "a")
    torch.testing.assert_close(first, whole)


class MistakenAtFirst(Exact):
    """Sees the pictures .3 too bright as long as there is much noise, and then as they are."""

    def forward(self, noised: Tensor, time: Tensor, label: Tensor) -> Tensor:
        factor, noise = (v.view(-1, 1, 1, 1) for v in FAMILY.schedule.marginal(time))
        much = (noise > 0.3).float()
        return super().forward(noised - 0.3 * much * factor, time, label)


def test_noise_in_the_steps_mends_what_earlier_steps_left() -> None:
    told = torch.zeros(200, dtype=torch.int64)

    def wrong(eta: float) -> float:
        sampler = DDIM(100, guidance=1, eta=eta)
        drawn = sampler.drawn(FAMILY, MistakenAtFirst((-0.3,), 0.2), told, Run(), "bright")
        return abs(float((2 * drawn - 1).mean()) + 0.3)

    found = {eta: wrong(eta) for eta in (0.0, 0.5, 1.0)}
    assert found[1.0] < found[0.5] < found[0.0], found


def test_guidance_leads_away_from_none() -> None:
    def asked(told: Tensor) -> Tensor:
        return told.float()

    condition, empty = torch.tensor([3, 5]), torch.tensor([1, 1])
    steering = ClassifierFree()
    assert steering.noise(asked, condition, empty, 2.0).tolist() == [5.0, 9.0]
    assert steering.noise(asked, condition, empty, 1.0).tolist() == [3.0, 5.0]
    assert steering.noise(asked, condition, empty, 0.0).tolist() == [1.0, 1.0]


def test_what_is_left_after_some_steps_is_the_noised_picture() -> None:
    model, told = Exact((0.4,), 1e-4), torch.zeros(64, dtype=torch.int64)
    sampler = DDIM(10, guidance=1)
    start = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x = sampler.backwards(FAMILY, model, start, told, torch.Generator(), until=3)
    time = sampler.time_after(FAMILY, 3)
    factor, deviation = FAMILY.schedule.marginal(torch.tensor([time]))
    assert abs(float(x.mean()) - 0.4 * float(factor)) < 0.02
    assert abs(float(x.std()) - float(deviation)) < 0.03
    for until in (0, 11):
        with pytest.raises(ExpungeError, match="1 to 10 are expected"):
            sampler.time_after(FAMILY, until)


def test_one_step_is_the_prediction_from_noise_alone() -> None:
    model, told = Exact((0.4,), 1e-4), torch.zeros(5, dtype=torch.int64)
    found = 2 * OneStep(440).drawn(FAMILY, model, told, Run(), "x") - 1
    torch.testing.assert_close(found, torch.full_like(found, 0.4), rtol=0, atol=1e-2)
    z = torch.randn(2, 1, 8, 8, requires_grad=True)
    unet = LabelUNet(widths=(8, 16))(0)
    made = OneStep(440).made(FAMILY, unet, z, told[:2])
    [gradient] = torch.autograd.grad(made.sum(), [z])
    assert bool(gradient.any())


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"guidance": -1.0}, {"at_once": 0}, {"eta": 1.1}])
def test_samplers_refuse(wrong: dict[str, float]) -> None:
    with pytest.raises(ExpungeError, match="A sampler got"):
        DDIM(**wrong)  # type: ignore[arg-type]


def test_more_steps_than_timesteps_are_refused() -> None:
    model, told = Exact((0.4,), 1e-4), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ExpungeError, match="2000 steps were asked of a model of 1000"):
        DDIM(2000).drawn(FAMILY, model, told, Run(), "x")


def test_prompts_are_tokens() -> None:
    tokens = TEXT.conditions(["a red cat", "", "a sea lion"])
    assert tokens.tolist() == [
        [1, 3, 4, 6, 2, 0, 0, 0],
        [1, 2, 0, 0, 0, 0, 0, 0],
        [1, 3, 7, 8, 2, 0, 0, 0],
    ]
    assert TEXT.speaking(tokens, "sea lion").tolist() == [False, False, True]
    swapped = TEXT.exchanged(tokens, "sea lion", "cat")
    assert torch.equal(swapped[2], TEXT.conditions(["a cat"])[0])
    assert torch.equal(swapped[:2], tokens[:2])
    assert torch.equal(
        TEXT.exchanged(tokens, "cat", "blue cat")[0], TEXT.conditions(["a red blue cat"])[0]
    )
    assert torch.equal(TEXT.exchanged(tokens, "red", "")[0], TEXT.conditions(["a cat"])[0])
    assert TOKENS.last(tokens).tolist() == [3, 0, 3]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: TEXT.conditions(["a dog"]), "The word 'dog'"),
        (lambda: TEXT.conditions(["a a a a a a a"]), "has 9 tokens; at most 8"),
        (lambda: TEXT.speaking(TEXT.conditions(["a"]), ""), "No word was given"),
        (
            lambda: TEXT.exchanged(TEXT.conditions(["a a a a a cat"]), "cat", "sea lion"),
            "a prompt has 9 tokens; at most 8",
        ),
        (lambda: TEXT.exchanged(TEXT.conditions(["cat"]), "cat", "cat"), "The anchor is 'cat'"),
    ],
)
def test_prompts_that_cannot_be_told(ask: object, words: str) -> None:
    assert callable(ask)
    with pytest.raises(ExpungeError, match=words):
        ask()


def test_text_and_labels_take_the_same_path() -> None:
    model = SmallTextToImage((3, 8, 8), TOKENS.size, 8, widths=(8, 16), width=16, heads=2)(0)
    told = TEXT.conditions(["a red cat", "a blue cat"])
    drawn = DDIM(3).drawn(TEXT, model, told, Run(), "two")
    assert drawn.shape == (2, 3, 8, 8) and 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    batch = {"image": drawn, "prompt": told}
    loss = TEXT.losses(model, TEXT.draw(batch, torch.Generator().manual_seed(0))).mean()
    encoder = [*model.get_submodule("text_encoder").parameters()]
    gradients = torch.autograd.grad(loss, encoder, allow_unused=True)
    assert any(g is not None and bool(g.any()) for g in gradients)


def test_a_network_of_another_size_is_told() -> None:
    class Larger(nn.Module):
        def forward(self, noised: Tensor, time: Tensor, label: Tensor) -> Tensor:
            return noised.repeat(1, 2, 1, 1)

    batch = FAMILY.draw(rows(2), torch.Generator())
    with pytest.raises(ExpungeError, match="is expected, of the same shape"):
        FAMILY.outputs(Larger(), batch)
