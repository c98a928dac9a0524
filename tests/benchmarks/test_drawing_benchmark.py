"""The benchmark of diffusion models: what is measured, what is chosen, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from expunge.benchmarks.drawing import tables
from expunge.benchmarks.drawing.protocol import Protocol, accepted, chosen
from expunge.benchmarks.drawing.rivals import ONCE, RIVALS, SEVERAL, RandomlyMasked
from expunge.benchmarks.drawing.work import (
    Look,
    Place,
    Training,
    Unlearning,
    evaluations,
    sampler_of,
)
from expunge.benchmarks.drawing.worlds import world
from expunge.benchmarks.jobs import key_of
from expunge.benchmarks.picture_judge import judged
from expunge.descent.selections import RandomEntries, Saliency
from expunge.errors import ExpungeError
from expunge.families.diffusion_sampling import DDIM
from expunge.methods.sfd import SFD
from expunge.problem import Access
from expunge.recipe import Role

PLACE = Place(Path("unused"), 3)


def class_means() -> Tensor:
    columns = world().rows["train"].columns
    found = [columns["image"][columns["label"] == c].mean(0) for c in range(10)]
    return torch.stack(found)


class Nearest(nn.Module):
    """A judge that sees the class whose mean is nearest."""

    def __init__(self) -> None:
        super().__init__()
        means = class_means().flatten(1)
        self.features = nn.Flatten()
        self.classifier = nn.Linear(64, 10)
        with torch.no_grad():
            self.classifier.weight.copy_(2 * means)
            self.classifier.bias.copy_(-means.square().sum(1))


class Drawer(nn.Module):
    """Sees the noise that leads to the mean picture of what it is told."""

    def __init__(self, told: dict[int, int]) -> None:
        super().__init__()
        means = torch.cat([2 * class_means() - 1, torch.zeros(1, 1, 8, 8)])
        for label, other in told.items():
            means[label] = 2 * class_means()[other] - 1
        self.means = nn.Parameter(means)

    def forward(self, noised: Tensor, time: Tensor, label: Tensor) -> Tensor:
        factor, deviation = world().family.schedule.marginal(time)
        drawn = factor.view(-1, 1, 1, 1) * self.means[label]
        return (noised - drawn) / deviation.view(-1, 1, 1, 1)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    judge = Nearest()
    monkeypatch.setattr(Look, "judge", property(lambda self: judge))
    return Look(PLACE, 0)


@pytest.mark.parametrize("sampler", [ONCE, DDIM(4, 1.0)])
def test_a_class_that_became_the_next_is_missed_and_the_rest_is_kept(
    look: Look, sampler: DDIM
) -> None:
    whole, without = (look.figures(Drawer(told), sampler) for told in ({}, {3: 4}))
    assert whole["missed"] == 0 and whole["next"] == 0
    assert without["missed"] == 1 and without["next"] == 1
    assert whole["retained"] == without["retained"] == 1
    assert whole["probability"] > without["probability"]
    assert whole["relearned"] == 0
    assert math.isnan(without["relearned"])  # 20 steps at this rate do not move a mean so far
    assert whole["distance"] == pytest.approx(without["distance"])


def test_pictures_of_nothing_are_garbage(look: Look) -> None:
    grey = look.drawn(Drawer({}), ONCE, torch.full((20,), 10), "none")
    real = judged(look.judge, world().rows["test"].columns["image"])
    assert float((grey.surest < look.unsure).double().mean()) >= 0.9
    assert float((real.surest < look.unsure).double().mean()) == pytest.approx(0.05, abs=0.04)


def test_methods_see_no_row_of_the_class_to_keep_and_no_judge() -> None:
    job = Unlearning(PLACE, "SalUn", 0, 0)
    problem = job.problem(nn.Identity())
    assert set(problem.data) == {Role.FORGET, Role.RETAIN}
    gone, kept = (problem.data[role] for role in (Role.FORGET, Role.RETAIN))
    assert set(gone.batch(torch.arange(len(gone)))["label"].tolist()) == {3}
    assert 3 not in kept.batch(torch.arange(len(kept)))["label"].tolist()
    assert not problem.companions and problem.recipe is None
    assert problem.request.text == "3" and problem.request.anchor is None


def test_what_a_job_depends_on() -> None:
    other = replace(PLACE, forgotten=7)
    assert key_of(Training(PLACE, "base", 0)) == key_of(Training(other, "base", 0))
    assert key_of(Training(PLACE, "oracle", 0)) != key_of(Training(other, "oracle", 0))
    jobs = [Unlearning(p, n, s, 0) for p in (PLACE, other) for n in ("SalUn", "SFD") for s in (0,)]
    jobs += [Unlearning(PLACE, "SalUn", 1, 0), Unlearning(PLACE, "SalUn", 0, 1)]
    assert len({key_of(job) for job in jobs}) == len(jobs)


def test_the_controls_differ_in_one_thing_alone() -> None:
    salient, random = (RIVALS[name].strengths for name in ("SalUn", "random mask"))
    for ours, control in zip(salient, random, strict=True):
        assert isinstance(control, RandomlyMasked)
        fields = {k: v for k, v in vars(ours).items() if k not in ("kept", "guidance", "passes")}
        assert fields == {k: v for k, v in vars(control).items() if k != "kept"}
        mask, chance = ours.parameters(), control.parameters()  # type: ignore[attr-defined]
        assert isinstance(mask, Saliency) and isinstance(chance, RandomEntries)
        assert mask.kept == chance.kept
    (distilled,), (plain,) = (RIVALS[n].strengths for n in ("SFD", "SFD, no forget term"))
    assert isinstance(distilled, SFD)
    assert replace(distilled, forget_weight=0.0, score_forget_weight=0.0) == plain
    assert distilled.unlearns_with == Access()
    for name, rival in RIVALS.items():
        if rival.like is not None:
            assert len(rival.strengths) == len(RIVALS[rival.like].strengths), name


def test_evaluations_count_what_a_guidance_asks() -> None:
    assert evaluations(sampler_of("SFD")) == 1
    assert evaluations(sampler_of("SalUn")) == evaluations(SEVERAL) == 30
    assert evaluations(DDIM(15, 1.0)) == 15


def test_the_strength_that_forgets_most_and_keeps_the_rest_is_taken() -> None:
    tried = [
        {"missed": 0.2, "retained": 0.99},
        {"missed": 0.8, "retained": 0.94},
        {"missed": 1.0, "retained": 0.5},
    ]
    assert chosen(tried, 0.98) == (1, True)
    assert chosen([tried[2], {"missed": 0.9, "retained": 0.6}], 0.98) == (1, False)
    assert chosen([{"diverged": "so"}, tried[0]], 0.98) == (1, True)
    assert chosen([{"diverged": "so"}], 0.98) == (0, False)


GOOD = {"accuracy": 0.985, "distance": 1.0}
BASE = {"by class": [0.99] * 10, "distance": 2.5}


def test_a_condition_that_the_base_cannot_draw_is_refused_with_its_accuracy() -> None:
    accepted(GOOD, [BASE], "3")
    blind = {**BASE, "by class": [0.99] * 3 + [0.41] + [0.99] * 6}
    with pytest.raises(ExpungeError, match=r"of seed 1 cannot draw '3': .* 0\.410 of its pictures"):
        accepted(GOOD, [BASE, blind], "3")
    accepted(GOOD, [blind], "4")  # the mean over classes is still enough
    poor = {**BASE, "by class": [0.95] + [0.85] * 9}
    with pytest.raises(ExpungeError, match=r"recognises 0\.860 of the pictures"):
        accepted(GOOD, [poor], "0")
    with pytest.raises(ExpungeError, match=r"4\.0 times as far"):
        accepted(GOOD, [{**BASE, "distance": 4.0}], "3")
    with pytest.raises(ExpungeError, match="nan times as far"):
        accepted(GOOD, [{**BASE, "distance": math.nan}], "3")
    with pytest.raises(ExpungeError, match=r"right on 0\.970 of the real test rows"):
        accepted({**GOOD, "accuracy": 0.97}, [BASE], "3")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"forgotten": "x"}, "The class 'x' was to be forgotten"),
        ({"forgotten": "7"}, "Strengths were to be chosen on the class '7'"),
        ({"rivals": ("SalUn", "SalUn")}, "expected at most once"),
        ({"rivals": ("nothing",)}, "The rows nothing were given"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    given: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ExpungeError, match=words):
        Protocol(tmp_path, **given)  # type: ignore[arg-type]


def cells(**figures: float) -> list[dict[str, float]]:
    base = {"missed": 0.0, "retained": 0.98, "distance": 2.0, "garbage": 0.05}
    return [{**base, **figures, "distance": 2.0 + 0.01 * seed} for seed in range(3)]


def test_verdicts_follow_the_figures() -> None:
    rows = {
        "original": cells(),
        "SalUn": cells(missed=0.99),
        "random mask": cells(missed=0.99),
        "gradient ascent": cells(missed=0.99, retained=0.5),
        "EraseDiff": cells(missed=1.0, garbage=0.97),
    }
    taken = {name: {"at": 0, "of": 2, "kept the rest": True} for name in list(rows)[1:]}
    said = " ".join(tables.verdicts({"rows": rows, "strengths": taken}))
    assert "random one of its size: no difference is shown" in said
    assert "Gradient ascent is worse than SalUn: holds" in said
    assert "Forgetting by garbage: EraseDiff:" in said
    swapped = {**rows, "SalUn": rows["gradient ascent"], "gradient ascent": rows["SalUn"]}
    again = " ".join(tables.verdicts({"rows": swapped, "strengths": taken}))
    assert "Gradient ascent is worse than SalUn: does not hold" in again


def test_one_seed_of_three_shows_no_difference() -> None:
    unsteady = [{**cell, "missed": float(seed == 0)} for seed, cell in enumerate(cells())]
    rows = {"original": cells(), "SalUn": cells(missed=0.99), "gradient difference": unsteady}
    taken = {name: {"at": 0, "of": 2, "kept the rest": True} for name in list(rows)[1:]}
    said = " ".join(tables.verdicts({"rows": rows, "strengths": taken}))
    assert "Gradient difference is worse than SalUn: no difference is shown" in said
