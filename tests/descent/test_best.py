"""Who looks at a descent while it runs: the caller after each step, and the score of the best."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data import digits
from expunge.data.samples import Batch, TensorSamples
from expunge.descent.averages import MovingAverage
from expunge.descent.best import BestOf, LowLoss
from expunge.descent.forget_terms import Ascent
from expunge.descent.length import Epochs, Steps
from expunge.descent.loop import Descended, Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player, Setting
from expunge.descent.retain_terms import Loss
from expunge.errors import AccessError, ExpungeError
from expunge.families.abilities import Family, HasLogits
from expunge.families.classifier import Classifier
from expunge.families.regressor import Regressor
from expunge.problem import Access, Fields, Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run


@cache
def digits_samples() -> TensorSamples:
    table = digits.load("validation")
    return TensorSamples(table["id"], table["subject"], digits.tensors(table))


class Network(nn.Sequential):
    """With batch norm and dropout, which differ between the modes."""

    def __init__(self) -> None:
        torch.manual_seed(4)
        super().__init__(
            nn.Flatten(),
            nn.Linear(64, 24),
            nn.BatchNorm1d(24),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(24, 10),
        )


def problem() -> Problem:
    samples = digits_samples()
    data = {
        Role.FORGET: samples.select(torch.arange(40)),
        Role.RETAIN: samples.select(torch.arange(40, 200)),
        Role.VALIDATION: samples.select(torch.arange(200, len(samples))),
    }
    return Problem(Network(), Classifier(classes=10), NO_REQUEST, data, History())


def descent(keep: BestOf | None = None, rate: float = 0.3, steps: int = 12) -> Descent:
    """Fast enough that the score goes up and down."""
    player = Player(retain=Loss(), optimiser=SGD(rate, 0.9))
    return Descent(player, length=Steps(steps), batch_size=32, keep=keep)


def scores(model: nn.Module) -> float:
    validation = problem().data[Role.VALIDATION].batch(torch.arange(30))
    with torch.no_grad():
        return float((model(validation["image"]).argmax(1) == validation["label"]).double().mean())


# ---- the caller ----


@pytest.mark.parametrize("training", [True, False])
def test_the_caller_sees_each_step_in_evaluation_mode_and_changes_no_bit(training: bool) -> None:
    seen: list[tuple[int, str, bool]] = []

    def look(step: int, model: nn.Module) -> None:
        torch.rand(5)
        seen.append((step, digest_of(model), any(m.training for m in model.modules())))

    asked = replace(problem(), model=Network().train(training))
    watched = descent().minimise(asked, Run(), each=look)
    assert digest_of(watched.model) == digest_of(descent().minimise(asked, Run()).model)
    assert [step for step, _, _ in seen] == list(range(1, 13))
    assert not any(mode for _, _, mode in seen)
    assert [m.training for m in watched.model.modules()] == [training] * 7
    for length in (1, 5, 12):  # what is seen after k steps is where a descent of k steps ends
        shorter = descent(steps=length).minimise(asked, Run()).model
        assert digest_of(shorter) == seen[length - 1][1]


def test_the_caller_sees_every_step_though_there_is_a_checkpoint(tmp_path: Path) -> None:
    run, steps = Run(checkpoints=tmp_path, checkpoint_every=1), []

    def stop(step: int, model: nn.Module) -> None:
        steps.append(step)
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        descent().minimise(problem(), run, each=stop)
    assert list(tmp_path.iterdir()) == []
    steps.clear()
    descent().minimise(problem(), run, each=lambda step, _: steps.append(step))
    assert steps == list(range(1, 13))


# ---- the best iterate ----


@pytest.mark.parametrize("every", [1, 5])
def test_the_first_of_the_best_scores_is_kept_with_its_statistics(every: int) -> None:
    seen: dict[int, tuple[float, str]] = {}

    def look(step: int, model: nn.Module) -> None:
        if step % every == 0 or step == 12:
            asked = problem().data[Role.VALIDATION]
            batch = asked.batch(torch.arange(len(asked)))
            with torch.no_grad():
                right = model(batch["image"]).argmax(1) == batch["label"]
            seen[step] = float(right.double().mean()), digest_of(model)

    found = descent(BestOf(every=every)).minimise(problem(), Run(), each=look)
    best = max(seen, key=lambda step: (seen[step][0], -step))
    assert (found.kept, found.score) == (best, seen[best][0])
    assert digest_of(found.model) == seen[best][1]
    assert found.steps == 12
    if every == 1:  # else the test would not see the difference
        assert best < 12
        assert len({score for score, _ in seen.values()}) > 2


def test_without_it_the_last_iterate_is_the_result() -> None:
    found = descent().minimise(problem(), Run())
    assert (found.steps, found.kept, found.score) == (12, 12, None)


def test_a_score_leaves_the_path_of_the_descent_alone() -> None:
    paths: list[list[str]] = []
    for keep in (None, BestOf(every=3)):
        path: list[str] = []

        def look(step: int, model: nn.Module, path: list[str] = path) -> None:
            path.append(digest_of(model))

        descent(keep).minimise(problem(), Run(), each=look)
        paths.append(path)
    assert paths[0] == paths[1]


@dataclass(frozen=True)
class Stopping(Loss):
    """Breaks off at a step, once."""

    at: tuple[int, ...] = ()
    stopped: ClassVar[set[int]] = set()

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        if setting.step in self.at and setting.step not in self.stopped:
            self.stopped.add(setting.step)
            raise KeyboardInterrupt
        return super().value(setting, batch, prepared)


def test_a_resumed_descent_keeps_the_same_iterate(tmp_path: Path) -> None:
    def attempt(run: Run) -> Descended:
        stopping = Stopping(at=(4, 9, 11))
        player = Player(forget=Ascent(0.7), retain=stopping, optimiser=SGD(0.3, 0.9))
        found = Descent(player, length=Steps(12), batch_size=32, keep=BestOf(every=2))
        return found.minimise(problem(), run)

    Stopping.stopped.update({4, 9, 11})
    whole = attempt(Run())
    Stopping.stopped.clear()
    run = Run(checkpoints=tmp_path, checkpoint_every=3)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            attempt(run)
    resumed = attempt(run)
    assert (resumed.kept, resumed.score) == (whole.kept, whole.score)
    assert whole.kept < 9  # it was in the checkpoint
    assert digest_of(resumed.model) == digest_of(whole.model)
    assert list(tmp_path.iterdir()) == []


def test_other_validation_rows_or_another_score_are_another_descent(tmp_path: Path) -> None:
    run = Run(checkpoints=tmp_path, checkpoint_every=2)
    changed = problem().data[Role.VALIDATION].select(torch.arange(10))
    other = replace(problem(), data={**problem().data, Role.VALIDATION: changed})
    for asked, keep in ((other, BestOf()), (problem(), BestOf(score=LowLoss()))):
        player = Player(retain=Stopping(at=(7,)), optimiser=SGD(0.3))
        Stopping.stopped.clear()
        begun = Descent(player, length=Steps(12), keep=BestOf())
        with pytest.raises(KeyboardInterrupt):
            begun.minimise(problem(), run)
        going = Descent(player, length=Steps(12), keep=keep)
        fresh = going.minimise(asked, Run())
        found = going.minimise(asked, run)
        assert (found.kept, found.score) == (fresh.kept, fresh.score)
        assert digest_of(found.model) == digest_of(fresh.model)


def test_the_access_opens_what_is_scored_and_the_needs_name_it() -> None:
    asked = descent(BestOf())
    assert asked.access == Access.to(Role.RETAIN, Role.VALIDATION)
    assert descent().access == Access.to(Role.RETAIN)
    assert HasLogits in asked.needs
    assert HasLogits not in descent().needs
    run = Run()
    asked.minimise(problem().opened(asked.access), run)
    assert run.meter.touched["validation"] == 12 * len(problem().data[Role.VALIDATION])
    with pytest.raises(AccessError, match="validation set"):
        asked.minimise(problem().opened(descent().access), Run())


def test_companions_are_those_of_the_best_iterate() -> None:
    @dataclass(frozen=True)
    class Judged(Loss):
        def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
            twin = replace(setting, modules={"model": setting.modules["judge"]})
            return super().value(twin, batch, prepared)

    asked = replace(problem(), companions={"judge": Network()})
    players = Player(retain=Loss(), optimiser=SGD(0.3, 0.9)), Player("judge", retain=Judged())
    found = Descent(*players, length=Steps(12), batch_size=32, keep=BestOf()).minimise(asked, Run())
    shorter = Descent(*players, length=Steps(found.kept), batch_size=32).minimise(asked, Run())
    assert found.kept < 12
    assert digest_of(found.companions["judge"]) == digest_of(shorter.companions["judge"])


def test_a_family_without_labels_is_scored_by_its_loss() -> None:
    samples = digits_samples()
    target = samples.columns["image"].flatten(1).mean(1, keepdim=True)
    rows = samples.with_column("target", target)
    data = {Role.RETAIN: rows, Role.VALIDATION: rows.select(torch.arange(20))}
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    asked = Problem(model, Regressor(), NO_REQUEST, data, History())
    keep = BestOf(score=LowLoss())
    player = Player(retain=Loss(), optimiser=SGD(0.01))
    found = Descent(player, length=Epochs(2, Role.RETAIN), keep=keep).minimise(asked, Run())
    assert found.score is not None
    assert found.score < 0
    with pytest.raises(ExpungeError, match="lacks HasLogits"):
        Descent(player, length=Steps(1), keep=BestOf()).minimise(asked, Run())


def test_what_cannot_be_kept_is_said() -> None:
    with pytest.raises(ExpungeError, match="every 0 steps"):
        BestOf(every=0)
    with pytest.raises(ExpungeError, match="both an average and a best iterate"):
        Descent(Player(), length=Steps(1), average=MovingAverage(), keep=BestOf())
    nothing = problem().data[Role.VALIDATION].select(torch.arange(0))
    empty = replace(problem(), data={**problem().data, Role.VALIDATION: nothing})
    with pytest.raises(ExpungeError, match="score of the 0 rows"):
        descent(BestOf()).minimise(empty, Run())

    @dataclass(frozen=True)
    class Broken:
        fields: Fields = None
        needs: ClassVar[tuple[type, ...]] = ()

        def values(self, family: Family, model: nn.Module, batch: Batch) -> Tensor:
            return torch.full((len(batch["label"]),), float("nan"))

    with pytest.raises(ExpungeError, match="is not a number"):
        Descent(Player(forget=Ascent()), length=Steps(1), keep=BestOf(score=Broken())).minimise(
            problem(), Run()
        )
