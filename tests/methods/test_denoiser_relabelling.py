"""Facts about relabelling denoisers: SalUn, EraseDiff, Scissorhands, and what runs as it is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.kinds import Replacement
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.conditions import AnchorOrNext, AnyOther, kept_of, target_of
from expunge.descent.denoising_terms import GuidedLosses, RelabelledNoise
from expunge.descent.gradient_conflicts import EpisodicProjection, ValueFunction, inner
from expunge.descent.player import Setting, StepGradients
from expunge.descent.selections import (
    Connections,
    ForgetGradient,
    RandomEntries,
    Saliency,
    own_losses,
)
from expunge.descent.transforms import ClipValue
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.diffusion import DROPPED, LabelDiffusion, TextDiffusion
from expunge.families.from_noise import TIME
from expunge.families.prompts import PromptTokens
from expunge.methods.erase_diff import EraseDiff, EraseDiffNoise
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.protocol import Method, missing, unlearn
from expunge.methods.relabel_diffusion import RelabelDiffusion, Relabelled
from expunge.methods.salun_diffusion import SalUnDiffusion
from expunge.methods.scissorhands import Scissorhands
from expunge.models.denoisers import SmallTextToImage
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run

SHORT = {"steps": 20, "learning_rate": 1e-3, "batch_size": 32}


def family_of(problem: Problem) -> LabelDiffusion:
    assert isinstance(problem.family, LabelDiffusion)
    return problem.family


def moved(method: Method, problem: Problem) -> nn.Module:
    return unlearn(method, problem, Run()).applied_to(problem.model)


def drawn_batch(problem: Problem, role: Role, rows: int = 100) -> dict[str, Tensor]:
    raw = problem.data[role].batch(torch.arange(rows))
    return dict(problem.family.draw(raw, torch.Generator().manual_seed(4)))


def distance_to(problem: Problem, model: nn.Module, label: int) -> float:
    """Of what a model sees in threes when told so, to what the first model sees told another."""
    family, batch = family_of(problem), drawn_batch(problem, Role.FORGET)
    noised, told = family.noised(model, batch), family.condition(batch)
    with torch.no_grad():
        found = family.noise(model, noised, batch[TIME], told)
        wanted = family.noise(problem.model, noised, batch[TIME], torch.full_like(told, label))
    return float((found - wanted).square().mean())


def test_the_target_is_drawn_as_the_next_label_or_the_anchor(drawing: Problem) -> None:
    method = RelabelDiffusion(frozen_teacher=True, steps=60, learning_rate=1e-3, batch_size=64)
    anchored = replace(drawing, request=replace(drawing.request, anchor="8"))
    before = distance_to(drawing, drawing.model, 4), distance_to(drawing, drawing.model, 8)
    plain, by_anchor = moved(method, drawing), moved(method, anchored)
    assert distance_to(drawing, plain, 4) < 0.6 * before[0]
    assert distance_to(drawing, by_anchor, 8) < 0.6 * before[1]
    assert distance_to(drawing, plain, 4) < distance_to(drawing, plain, 3)
    labels = torch.tensor([3, 9])
    assert AnchorOrNext().of(drawing, labels, torch.Generator()).tolist() == [4, 0]


def test_random_labels_are_those_that_stay(drawing: Problem) -> None:
    draws = torch.Generator().manual_seed(0)
    found = AnyOther().of(drawing, torch.full((900,), 3), draws)
    counts = found.bincount(minlength=10)
    assert int(counts[3]) == 0
    assert float(counts[counts > 0].float().std()) < 30 and int((counts > 0).sum()) == 9


def test_the_relabelled_noise_is_the_mean_over_all_pixels(drawing: Problem) -> None:
    """One reduction for both terms; the gradient goes through the told prediction alone."""
    family, batch = family_of(drawing), drawn_batch(drawing, Role.FORGET, 16)
    batch[DROPPED] = torch.ones(16, dtype=torch.bool)  # every row is told all the same
    model = drawing.model
    setting = Setting(drawing, {"model": model}, lambda: model, Run())
    noised, told = family.noised(model, batch), family.condition(batch)
    found = family.noise(model, noised, batch[TIME], told)
    wanted = family.noise(model, noised, batch[TIME], told + 1).detach()
    value = RelabelledNoise().value(setting, batch, None)
    expected = (found - wanted).square().sum() / (16 * 64)
    torch.testing.assert_close(value, expected)
    parameters = [*model.parameters()]
    pairs = zip(
        torch.autograd.grad(value, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other)


def test_half_of_all_weights_keep_their_bits(drawing: Problem) -> None:
    method = SalUnDiffusion(**SHORT)  # type: ignore[arg-type]
    after = dict(moved(method, drawing).named_parameters())
    before = dict(drawing.model.named_parameters())
    total = sum(p.numel() for p in before.values())
    same = sum(int((p == before[n]).sum()) for n, p in after.items())
    held = total - total // 2
    assert held <= same <= held + 200  # of those that may move a few have no gradient
    mask = method.parameters().select(drawing.model, drawing, Run())
    assert sum(int(m.sum()) for m in mask.values() if m is not None) == total // 2
    for name, moves in mask.items():
        assert moves is not None
        assert torch.equal(after[name][~moves], before[name][~moves])


def test_a_mask_of_ones_is_plain_relabelling(drawing: Problem) -> None:
    whole = SalUnDiffusion(kept=1.0, **SHORT)  # type: ignore[arg-type]
    plain = RelabelDiffusion(**SHORT)  # type: ignore[arg-type]
    pairs = zip(moved(whole, drawing).parameters(), moved(plain, drawing).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_mask_follows_from_the_signed_sum_of_guided_gradients(drawing: Problem) -> None:
    """In one batch and in several, of the guided loss and not of the plain one."""
    guided = ForgetGradient(256, GuidedLosses(2.0)).of(drawing.model, drawing, Run())
    plain = ForgetGradient(256, own_losses).of(drawing.model, drawing, Run())
    twice = ForgetGradient(256, GuidedLosses(2.0), passes=2).of(drawing.model, drawing, Run())
    clipped = ForgetGradient(256, GuidedLosses(2.0), clip=0.5).of(drawing.model, drawing, Run())
    assert not torch.allclose(guided["told.weight"], plain["told.weight"])
    assert not torch.allclose(twice["told.weight"], 2 * guided["told.weight"])  # noise of its own
    size = torch.stack([g.square().sum() for g in clipped.values()]).sum().sqrt()
    torch.testing.assert_close(size, torch.tensor(0.5))
    ratio = guided["told.weight"] / clipped["told.weight"]
    torch.testing.assert_close(ratio[3], ratio[3, :1].expand(64))
    for name in guided:
        same = Saliency(0.3, ForgetGradient(256, GuidedLosses(2.0))).select
        assert same(drawing.model, drawing, Run())[name] is not None
    assert not bool(guided["told.weight"][4].any())  # other labels are not told
    assert bool(guided["told.weight"][10].any())  # but none is, unlike in the plain loss


def test_guidance_of_one_is_the_told_loss(drawing: Problem) -> None:
    batch = drawn_batch(drawing, Role.FORGET, 20)
    batch[DROPPED] = torch.zeros(20, dtype=torch.bool)
    found = GuidedLosses(1.0)(drawing.family, drawing.model, batch)
    torch.testing.assert_close(found, own_losses(drawing.family, drawing.model, batch))


def test_random_masks_are_as_large_and_others(drawing: Problem) -> None:
    salient = Saliency(0.3).select(drawing.model, drawing, Run())
    random = RandomEntries(0.3).select(drawing.model, drawing, Run())

    def flat(masks: object) -> Tensor:
        assert isinstance(masks, dict)
        return torch.cat([m.reshape(-1) for m in masks.values()])

    assert int(flat(salient).sum()) == int(flat(random).sum())
    shared = float((flat(salient) & flat(random)).sum() / flat(random).sum())
    assert 0.25 < shared < 0.35  # as chance has it


class Given:
    """The gradients of two linear terms at a point."""

    def __init__(self, keep: list[float], forget: list[float]) -> None:
        self.at = nn.Parameter(torch.zeros(2))
        terms = {"retain": torch.tensor(keep), "forget": torch.tensor(forget)}
        values = {n: lambda g=g: (g * self.at).sum() for n, g in terms.items()}
        self.step = StepGradients((self.at,), values, (None,))


def test_the_value_function_forgets_at_least_so_much_and_no_more(drawing: Problem) -> None:
    against = ValueFunction(0.5, clip=99.0).gradients(Given([1.0, -1.0], [0.0, 2.0]).step)
    torch.testing.assert_close(against[0], torch.tensor([1.0, 1.0]))  # <step, f> = eta |f|^2 = 2
    along = ValueFunction(0.5, clip=99.0).gradients(Given([1.0, 3.0], [0.0, 2.0]).step)
    torch.testing.assert_close(along[0], torch.tensor([1.0, 3.0]))  # enough by itself
    cut = ValueFunction(0.5, clip=1.0).gradients(Given([3.0, 4.0], [0.0, 1.0]).step)
    torch.testing.assert_close(cut[0].norm(), torch.tensor(1.0))


def test_the_projection_never_steps_against_forgetting() -> None:
    found = EpisodicProjection(0.5, clip=99.0).gradients(Given([1.0, -9.0], [0.0, 2.0]).step)
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.0]))  # sum (1, -7), v = 3.5
    barely = EpisodicProjection(0.5, clip=99.0).gradients(Given([1.0, -2.2], [0.0, 2.0]).step)
    torch.testing.assert_close(barely[0], torch.tensor([1.0, 0.8]))  # v is the margin
    free = EpisodicProjection(0.5, clip=99.0).gradients(Given([1.0, 3.0], [0.0, 2.0]).step)
    torch.testing.assert_close(free[0], torch.tensor([1.0, 5.0]))
    assert float(inner(found, [torch.tensor([0.0, 2.0])])) >= 0


def test_a_cut_by_value_cuts_every_entry() -> None:
    found = ClipValue(1.0).gradients(Given([1.0, -9.0], [0.5, 2.0]).step)
    assert found[0].tolist() == [1.0, -1.0]


def test_scissorhands_trims_the_most_sensitive_connections(drawing: Problem) -> None:
    method = Scissorhands(trimmed=0.05)
    trimmed = dict(method.trim(drawing, Run()).named_parameters())
    mask = Connections(0.05).select(drawing.model, drawing, Run())
    gradient = ForgetGradient().of(drawing.model, drawing, Run())
    named = dict(drawing.model.named_parameters())
    score = torch.cat([(named[n].detach() * g).abs().reshape(-1) for n, g in gradient.items()])
    flat = torch.cat([m.reshape(-1) for m in mask.values()])
    assert int(flat.sum()) == int(0.05 * len(flat))
    assert float(score[flat].min()) >= float(score[~flat].max())
    for name, weight in trimmed.items():
        assert torch.equal(weight[~mask[name]], named[name][~mask[name]])
        assert not torch.equal(weight, named[name]) or not bool(mask[name].any())
        if weight.dim() < 2:
            assert not bool(weight[mask[name]].any())
        if bool(mask[name].any()):
            assert float(weight[mask[name]].detach().abs().max()) <= 0.04


@pytest.mark.parametrize(
    "method",
    [
        EraseDiff(**SHORT),  # type: ignore[arg-type]
        EraseDiffNoise(**SHORT),  # type: ignore[arg-type]
        Scissorhands(trimmed=0.01, **SHORT),  # type: ignore[arg-type]
        GradientAscent(5, 1e-3),
        GradientDifference(5, 1e-3),
    ],
    ids=lambda method: method.name,
)
def test_they_forget_more_than_they_lose(method: Method, drawing: Problem) -> None:
    """The denoising loss on the forget rows rises, and by more than that on the retained ones."""
    after = moved(method, drawing)
    risen = {}
    for role in (Role.FORGET, Role.RETAIN):
        batch = drawn_batch(drawing, role)
        with torch.no_grad():
            before, now = (
                own_losses(drawing.family, model, batch) for model in (drawing.model, after)
            )
        risen[role] = float((now - before).mean())
    assert risen[Role.FORGET] > 0.01
    assert risen[Role.FORGET] > 1.5 * risen[Role.RETAIN]


def test_fine_tuning_runs_as_it_is(drawing: Problem) -> None:
    after = moved(FineTune(1, 1e-4), drawing)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(after.parameters(), drawing.model.parameters(), strict=True)
    )


WORDS = ("a", "red", "cat", "dog", "sea")
TEXT = TextDiffusion((3, 8, 8), tokens=PromptTokens(WORDS, length=6))


@pytest.fixture
def sentences(drawing: Problem) -> Problem:
    """The same rows in colour, told in sentences: cats must become dogs."""
    data: dict[Role, Samples] = {}
    for role, words in ((Role.FORGET, "a cat"), (Role.RETAIN, "a red dog")):
        rows = drawing.data[role]
        images = rows.batch(torch.arange(40))["image"].expand(-1, 3, -1, -1)
        columns = {"image": images, "prompt": TEXT.conditions([words] * 40)}
        data[role] = TensorSamples(rows.ids[:40], rows.ids[:40], columns)
    network = SmallTextToImage((3, 8, 8), TEXT.tokens.size, 6, (8, 16), width=16, heads=2)(0)
    request = replace(NO_REQUEST, name="cats", text="cat", anchor="dog")
    return replace(drawing, model=network, family=TEXT, request=request, data=data)


@pytest.mark.parametrize(
    "method",
    [
        SalUnDiffusion(steps=2, batch_size=8),
        RelabelDiffusion(steps=2, batch_size=8),
        EraseDiff(instead=AnyOther(("a red dog", "a sea")), steps=2, batch_size=8),
        Scissorhands(steps=2, batch_size=8),
    ],
    ids=lambda method: method.name,
)
def test_they_run_unchanged_on_sentences(method: Method, sentences: Problem) -> None:
    after = moved(method, sentences)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(after.parameters(), sentences.model.parameters(), strict=True)
    )


def test_the_anchor_takes_the_targets_place_in_a_sentence(sentences: Problem) -> None:
    told = TEXT.conditions(["a red cat"])
    found = AnchorOrNext().of(sentences, told, torch.Generator())
    assert torch.equal(found, TEXT.conditions(["a red dog"]))


def test_an_anchor_that_is_the_target_is_refused(drawing: Problem, sentences: Problem) -> None:
    for problem, word in ((drawing, "3"), (sentences, "cat")):
        same = replace(problem, request=replace(problem.request, anchor=word))
        with pytest.raises(ExpungeError, match=f"The anchor is '{word}', and so is what is to be"):
            unlearn(RelabelDiffusion(steps=1, batch_size=8), same, Run())


def test_requests_that_say_too_little_are_refused(drawing: Problem, sentences: Problem) -> None:
    mute = replace(drawing, request=NO_REQUEST)
    with pytest.raises(ExpungeError, match="does not say in words what must not be drawn"):
        target_of(mute)
    far = replace(drawing, request=replace(drawing.request, labels=(12,)))
    with pytest.raises(ExpungeError, match="names the label 12; the model draws the labels 0 to 9"):
        target_of(far)
    assert target_of(replace(drawing, request=replace(drawing.request, text="7"))) == "7"
    with pytest.raises(ExpungeError, match="names no anchor"):
        alone = replace(sentences, request=replace(sentences.request, anchor=None))
        AnchorOrNext().of(alone, TEXT.conditions(["a cat"]), torch.Generator())
    with pytest.raises(ExpungeError, match="give `prompts`, sentences that do not speak"):
        kept_of(sentences)
    with pytest.raises(ExpungeError, match="a text speaks of 'cat'"):
        kept_of(sentences, ["a dog", "a red cat"])
    single = replace(drawing, family=LabelDiffusion(classes=("3",)))
    with pytest.raises(ExpungeError, match="two at least are expected"):
        AnchorOrNext().of(single, torch.zeros(1, dtype=torch.int64), torch.Generator())


def test_pictures_of_another_size_are_refused(drawing: Problem) -> None:
    larger = replace(drawing, family=LabelDiffusion((1, 16, 16), classes=tuple("0123456789")))
    with pytest.raises(ExpungeError, match=r"of \(1, 16, 16\).*Resize"):
        unlearn(SalUnDiffusion(steps=1), larger, Run())


@pytest.mark.parametrize("method", [SalUnDiffusion(), EraseDiff()], ids=lambda m: m.name)
def test_other_families_are_refused(method: Method, drawing: Problem) -> None:
    (lack,) = missing(method, replace(drawing, family=Classifier(classes=10)))
    assert "Diffusion" in lack.clause


def test_presets_are_short_and_have_rules(drawing: Problem) -> None:
    for kind in (SalUnDiffusion, RelabelDiffusion, EraseDiff, EraseDiffNoise, Scissorhands):
        method = kind()
        assert method.steps == 1000
        assert method.for_problem(drawing, Run()).steps <= 300
        assert method.preset_rule
    assert SalUnDiffusion().retain_weight == 3.0


def test_sequential_forms_replace_the_model(drawing: Problem) -> None:
    method: Relabelled = SalUnDiffusion(steps=1, sequential=True)
    (change,) = unlearn(method, drawing, Run()).changes
    assert isinstance(change, Replacement)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: ForgetGradient(passes=0), "in 0 passes"),
        (lambda: ForgetGradient(clip=0.0), "a norm above 0"),
        (lambda: ValueFunction(eta=-1.0), "eta = -1"),
        (lambda: Scissorhands(deviation=-0.1), "a deviation of -0.1"),
        (lambda: Saliency(1.5), "A share of 1.5"),
    ],
)
def test_fields_that_mean_nothing_are_refused(wrong: object, words: str, drawing: Problem) -> None:
    assert callable(wrong)
    with pytest.raises(ExpungeError, match=words):
        wrong().select(drawing.model, drawing, Run())
