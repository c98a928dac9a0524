"""Facts about methods without rows: Score Forgetting Distillation, Selective Amnesia."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of
from expunge.descent.conditions import AnyOther
from expunge.descent.denoising_sources import ANCHOR, START, TARGET, OwnPictures, UniformPictures
from expunge.descent.denoising_terms import Elastic
from expunge.descent.player import Setting
from expunge.descent.score_distillation import FAKE, FakeScore, ScoreIdentity
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.diffusion import (
    DROPPED,
    LabelDiffusion,
    NoiseSchedule,
    TextDiffusion,
    different,
)
from expunge.families.diffusion_sampling import DDIM, OneStep
from expunge.families.from_noise import NOISE, TIME
from expunge.families.prompts import PromptTokens
from expunge.methods.protocol import missing, unlearn
from expunge.methods.selective_amnesia_diffusion import SelectiveAmnesiaDiffusion
from expunge.methods.sfd import SFD
from expunge.models.denoisers import SmallTextToImage
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run

QUICK = SFD(
    forget_weight=0.02,
    score_forget_weight=1.0,
    score_learning_rate=5e-4,
    learning_rate=5e-4,
    batch_size=64,
    forget_batch_size=32,
    steps=150,
    decay=0.9,
)


def family_of(problem: Problem) -> LabelDiffusion:
    assert isinstance(problem.family, LabelDiffusion)
    return problem.family


def setting_of(problem: Problem, fake: nn.Module) -> Setting:
    modules = {"model": problem.model, FAKE: fake}
    frozen = copy.deepcopy(problem.model).requires_grad_(False)
    return Setting(problem, modules, lambda: frozen, Run())


def means(problem: Problem) -> Tensor:
    """The mean picture (10, 64) of every class."""
    both = [problem.data[r].batch(torch.arange(len(problem.data[r]))) for r in _ROLES]
    images = torch.cat([b["image"] for b in both]).flatten(1)
    labels = torch.cat([b["label"] for b in both])
    return torch.stack([images[labels == c].mean(0) for c in range(10)])


_ROLES = (Role.FORGET, Role.RETAIN)


def nearest(problem: Problem, model: nn.Module, label: int, count: int = 200) -> Tensor:
    """The class whose mean is nearest to each picture that is drawn in one step."""
    told = torch.full((count,), label)
    drawn = OneStep().drawn(family_of(problem), model, told, Run(), "look").flatten(1)
    return torch.cdist(drawn, means(problem)).argmin(1)


def test_the_target_becomes_the_anchor_and_the_others_stay_and_no_row_is_opened(
    drawing: Problem,
) -> None:
    assert QUICK.unlearns_with == Access() and QUICK.prepares_with == Access()
    request = replace(drawing.request, anchor="0")
    blind = replace(drawing, request=request, data={}, recipe=None)
    before = digest_of(drawing.model)
    (change,) = unlearn(QUICK, blind, Run()).changes
    assert isinstance(change, Replacement)
    assert change.facts["drawn"] == "one step" and change.facts["initial"] == 440
    generator = change.applied_to(drawing.model)
    assert digest_of(drawing.model) == before
    assert float((nearest(drawing, generator, 3) == 0).double().mean()) > 0.8
    assert float((nearest(drawing, drawing.model, 3) == 0).double().mean()) < 0.2
    right = [float((nearest(drawing, generator, c, 50) == c).double().mean()) for c in (0, 7, 9)]
    assert min(right) > 0.6


def test_without_a_forget_term_the_target_is_never_drawn_and_stays(drawing: Problem) -> None:
    plain = replace(QUICK, forget_weight=0.0, score_forget_weight=0.0, steps=60)
    player = plain.descent().players[0]
    source = player.others["own"].source
    assert isinstance(source, OwnPictures) and source.targets == 0
    generator = unlearn(plain, replace(drawing, data={}), Run()).applied_to(drawing.model)
    assert float((nearest(drawing, generator, 3) == 3).double().mean()) > 0.5


def test_the_sources_ask_for_everything_but_the_target_beside_the_target(drawing: Problem) -> None:
    source = OwnPictures(40, 38, 712)
    batch = source.batch(setting_of(drawing, drawing.model), 300, torch.Generator().manual_seed(0))
    kept, target = ~batch[TARGET], batch[TARGET]
    assert int(target.sum()) == 40 and int(kept.sum()) == 300
    assert set(batch["label"][kept].tolist()) == {0, 1, 2, 4, 5, 6, 7, 8, 9}
    assert torch.equal(batch["label"][kept], batch[ANCHOR][kept])
    assert set(batch["label"][target].tolist()) == {3}
    assert set(batch[ANCHOR][target].tolist()) == {4}
    assert int(batch[TIME].min()) >= 38
    assert int(batch[TIME].max()) < 712
    assert batch[START].shape == batch[NOISE].shape == (340, 1, 8, 8)
    random = replace(source, instead=AnyOther())
    others = random.batch(setting_of(drawing, drawing.model), 2, torch.Generator().manual_seed(0))
    assert len(set(others[ANCHOR][2:].tolist())) > 3


def test_the_generator_loss_is_that_of_the_paper(drawing: Problem) -> None:
    """Summed over pixels and divided by a fixed omega; at alpha 1 it is (y_p - y_s)(y_s - x)."""
    family = family_of(drawing)
    fake = type(drawing.model)(5)
    setting = setting_of(drawing, fake)
    batch = OwnPictures(4).batch(setting, 12, torch.Generator().manual_seed(1))
    made = OneStep(440).made(family, drawing.model, batch[START], batch["label"])
    noised = family.noised_at(made, batch[TIME], batch[NOISE])

    def clean(network: nn.Module, told: Tensor) -> Tensor:
        return family.clean(noised, batch[TIME], family.noise(network, noised, batch[TIME], told))

    teacher = clean(setting.reference(), batch[ANCHOR])
    other = clean(fake, batch["label"])
    omega = (teacher - made).abs().mean((1, 2, 3)).detach()
    rows = ((teacher - other) * (other - made)).sum((1, 2, 3)) / omega
    expected = rows[:12].mean() + 0.3 * rows[12:].mean()
    found = ScoreIdentity(target_weight=0.3, alpha=1.0).value(setting, batch, None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    moving = [*drawing.model.parameters()]
    one, two = (torch.autograd.grad(v, moving, retain_graph=True) for v in (found, expected))
    for ours, wanted in zip(one, two, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-2, atol=1e-3)
    published = ScoreIdentity(target_weight=0.3, alpha=1.2).value(setting, batch, None)
    apart = ((teacher - other).square()).sum((1, 2, 3)) / omega
    more = apart[:12].mean() + 0.3 * apart[12:].mean()
    torch.testing.assert_close(found - published, 0.2 * more, rtol=1e-3, atol=1e-3)


def test_the_fake_score_learns_the_generators_pictures_which_stay(drawing: Problem) -> None:
    fake = type(drawing.model)(6)
    setting = setting_of(drawing, fake)
    batch = OwnPictures(0).batch(setting, 8, torch.Generator().manual_seed(2))
    value = FakeScore().value(setting, batch, None)
    moved = torch.autograd.grad(value, [*fake.parameters()], allow_unused=True, retain_graph=True)
    assert any(g is not None and bool(g.any()) for g in moved)
    with pytest.raises(RuntimeError, match=r"not have been used|does not require grad"):
        torch.autograd.grad(value, [*drawing.model.parameters()])
    family = family_of(drawing)
    with torch.no_grad():
        made = OneStep(440).made(family, drawing.model, batch[START], batch["label"])
        noised = family.noised_at(made, batch[TIME], batch[NOISE])
        found = family.noise(fake, noised, batch[TIME], batch["label"])
    expected = (found - batch[NOISE]).square().sum() / 8  # a sum over pixels
    torch.testing.assert_close(value.detach(), expected)


def test_schedules_that_end_too_early_are_refused(drawing: Problem) -> None:
    short = LabelDiffusion(classes=tuple("0123456789"), schedule=NoiseSchedule(steps=400))
    problem = replace(drawing, family=short)
    with pytest.raises(ExpungeError, match="at timestep 440 was asked of a schedule of 400"):
        unlearn(SFD(steps=1), problem, Run())
    with pytest.raises(ExpungeError, match="Timesteps up to 712 were asked of a schedule of 400"):
        unlearn(SFD(initial=300, steps=1), problem, Run())
    fitting = SFD().for_problem(problem, Run())
    assert (fitting.first, fitting.initial, fitting.last) == (15, 176, 285)
    with pytest.raises(ExpungeError, match="rising timesteps"):
        OwnPictures(first=10, last=10)


def test_defaults_are_those_of_the_paper() -> None:
    method = SFD()
    assert (method.first, method.initial, method.last) == (38, 440, 712)
    assert (method.alpha, method.forget_weight, method.score_forget_weight) == (1.2, 0.01, 0.01)
    assert (method.steps, method.batch_size, method.decay) == (50_000, 128, 0.9999)
    assert method.sequential
    assert "steps" in SFD.preset_rule


@pytest.mark.parametrize("method", [QUICK, SelectiveAmnesiaDiffusion()], ids=lambda m: m.name)
def test_requests_without_words_and_other_families_are_refused(
    method: SFD | SelectiveAmnesiaDiffusion, drawing: Problem
) -> None:
    with pytest.raises(ExpungeError, match="does not say in words"):
        unlearn(method, replace(drawing, request=NO_REQUEST), Run())
    (lack,) = missing(method, replace(drawing, family=Classifier(classes=10)))
    assert "Diffusion" in lack.clause
    with pytest.raises(ExpungeError, match="The anchor is '3'"):
        different("3", "3")


# ---- Selective Amnesia -------------------------------------------------------------------------


AMNESIA = SelectiveAmnesiaDiffusion(
    elasticity=0.01,
    replayed=90,
    sampler=DDIM(10, 1.5),
    fisher_rows=10,
    fisher_stride=50,
    steps=40,
    learning_rate=2e-3,
    batch_size=64,
)


def loss_of(problem: Problem, model: nn.Module, role: Role) -> float:
    rows = problem.data[role].batch(torch.arange(100))
    batch = {**family_of(problem).draw(rows, torch.Generator().manual_seed(9))}
    batch[DROPPED] = torch.zeros(100, dtype=torch.bool)
    return float(family_of(problem).losses(model, batch).mean().detach())


def test_amnesia_reads_no_row_forgets_and_keeps(drawing: Problem) -> None:
    assert AMNESIA.unlearns_with == Access()
    blind = replace(drawing, data={}, recipe=None)
    after = unlearn(AMNESIA, blind, Run()).applied_to(drawing.model)
    risen = {r: loss_of(drawing, after, r) - loss_of(drawing, drawing.model, r) for r in _ROLES}
    assert risen[Role.FORGET] > 0.02
    assert risen[Role.FORGET] > 1.5 * risen[Role.RETAIN]


def test_a_stiff_penalty_holds_the_weights(drawing: Problem) -> None:
    blind = replace(drawing, data={})

    def length(elasticity: float) -> float:
        method = replace(AMNESIA, elasticity=elasticity, steps=15)
        after = unlearn(method, blind, Run()).applied_to(drawing.model)
        pairs = zip(after.parameters(), drawing.model.parameters(), strict=True)
        return float(torch.stack([(a - b).square().sum() for a, b in pairs]).sum().detach())

    assert length(100.0) < 0.7 * length(0.0)


def test_fisher_information_is_of_the_summed_losses_and_of_mean_one(drawing: Problem) -> None:
    rows = drawing.data[Role.RETAIN].select(torch.arange(3))
    setting = replace(setting_of(drawing, drawing.model), label="x")
    term = Elastic(rows=3, stride=100, at_once=4)
    held = term.start(setting, rows)
    total = torch.cat([f.reshape(-1) for f, _ in held.values()])
    assert float(total.mean()) == pytest.approx(1.0, rel=1e-4)
    assert float(total.min()) >= 0
    family, named = family_of(drawing), dict(drawing.model.named_parameters())
    squares = {n: torch.zeros_like(p) for n, p in named.items()}
    for row in range(3):
        raw = rows.batch(torch.tensor([row]))
        draws = Run().generator(f"x/fisher/{row}")
        losses = []
        for chunk in torch.split(torch.arange(0, 1000, 100), 4):
            copies = {n: t.repeat(len(chunk), *[1] * (t.dim() - 1)) for n, t in raw.items()}
            told = {**family.draw(copies, draws), TIME: chunk}
            told[DROPPED] = torch.zeros(len(chunk), dtype=torch.bool)
            losses.append(family.losses(drawing.model, told).means().sum())
        found = torch.autograd.grad(torch.stack(losses).sum(), [*named.values()])
        for name, gradient in zip(named, found, strict=True):
            squares[name] += gradient.square()
    whole = torch.cat([s.reshape(-1) for s in squares.values()])
    torch.testing.assert_close(total, whole / whole.mean(), rtol=1e-3, atol=1e-3)
    assert float(term.value(setting, {}, held).detach()) == 0  # at the start
    assert all(p.requires_grad for p in named.values())


def test_the_surrogate_is_uniform_noise_told_the_target_always(drawing: Problem) -> None:
    setting = setting_of(drawing, drawing.model)
    batch = UniformPictures().batch(setting, 400, torch.Generator().manual_seed(0))
    assert set(batch["label"].tolist()) == {3} and not bool(batch[DROPPED].any())
    assert float(batch["image"].std()) == pytest.approx(12**-0.5, rel=0.02)
    assert float(batch["image"].mean()) == pytest.approx(0.5, abs=0.01)


def test_fields_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ExpungeError, match="0 pictures were to be replayed"):
        SelectiveAmnesiaDiffusion(replayed=0)
    with pytest.raises(ExpungeError, match="at least 1 of each"):
        Elastic(stride=0)


def test_the_amnesia_preset_fits_the_schedule(drawing: Problem) -> None:
    found = SelectiveAmnesiaDiffusion().for_problem(drawing, Run())
    assert (found.steps, found.fisher_stride, found.replayed) == (100, 50, 360)
    assert SelectiveAmnesiaDiffusion().fisher_stride == 1


# ---- told in sentences -------------------------------------------------------------------------


def test_both_run_unchanged_on_sentences() -> None:
    words = PromptTokens(("a", "red", "cat", "dog", "sea"), length=6)
    family = TextDiffusion((3, 8, 8), tokens=words)
    network = SmallTextToImage((3, 8, 8), words.size, 6, (8, 16), width=16, heads=2)(0)
    request = replace(NO_REQUEST, name="cats", text="cat", anchor="dog")
    problem = _blind(network, family, request)
    about = {"prompts": ("a red dog", "a sea"), "target_prompts": ("a cat", "a red cat")}
    generator = replace(SFD(), steps=2, batch_size=4, forget_batch_size=4, **about)  # type: ignore[arg-type]
    amnesia = replace(AMNESIA, steps=2, batch_size=4, replayed=4, fisher_rows=1, fisher_stride=250)
    for method in (generator, replace(amnesia, **about)):  # type: ignore[arg-type]
        after = unlearn(method, problem, Run()).applied_to(network)
        assert digest_of(after) != digest_of(network)
    source = generator.descent().players[0].others["own"].source
    assert isinstance(source, OwnPictures)
    batch = source.batch(setting_of(problem, network), 4, torch.Generator().manual_seed(0))
    told, others = batch["prompt"][4:], batch[ANCHOR][4:]
    assert bool(family.speaking(told, "cat").all()) and bool(family.speaking(others, "dog").all())


def _blind(network: nn.Module, family: TextDiffusion, request: object) -> Problem:
    from expunge.changes.history import History
    from expunge.requests import Request

    assert isinstance(request, Request)
    return Problem(network, family, request, {}, History())
