"""The gradient loop: what it repeats bit for bit, what it keeps, and who moves when."""

import gc
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import Batch, Samples, TensorSamples
from expunge.descent.averages import MovingAverage
from expunge.descent.forget_terms import Ascent
from expunge.descent.length import Epochs, Steps
from expunge.descent.loop import Descended, Descent
from expunge.descent.optimisers import SGD, AdamW, Cosine, Optimiser
from expunge.descent.player import (
    Adversary,
    On,
    Player,
    Setting,
    StepGradients,
    Term,
    Transform,
)
from expunge.descent.retain_terms import Loss
from expunge.descent.streams import Stream
from expunge.descent.transforms import ClipNorm, ProjectConflicts
from expunge.errors import AccessError, ExpungeError
from expunge.families.abilities import HasLoss, able
from expunge.families.classifier import Classifier
from expunge.problem import Access, Fields, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

# ---- the problem: digits, a small network with dropout ----


@cache
def digits() -> TensorSamples:
    """The first 400 handwritten digits, pixels in [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    ids = [str(i) for i in range(400)]
    return TensorSamples(
        ids,
        ids,
        {
            "image": torch.tensor(images[:400] / 16, dtype=torch.float32),
            "label": torch.tensor(labels[:400]),
        },
    )


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, 10))


def digits_problem(model: nn.Module | None = None, value: str = "3") -> Problem:
    """Forget one digit."""
    forget = digits().columns["label"] == int(value)
    return Problem(
        model=network() if model is None else model,
        family=Classifier(classes=10),
        request=Request("a digit", Rows("label", (value,))),
        data={
            Role.FORGET: digits().select(forget.nonzero().reshape(-1)),
            Role.RETAIN: digits().select((~forget).nonzero().reshape(-1)),
        },
        history=History.of("base"),
    )


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same_bits(left: nn.Module, right: nn.Module) -> bool:
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


# ---- parts that watch, stop, or look at a point ----


@dataclass(frozen=True)
class Watched:
    """A term that shows every batch it sees before it takes the loss of an inner term."""

    seen: Callable[[Setting, Batch], object] = field(repr=False)
    inner: Term = field(default_factory=Loss)
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> object:
        return self.inner.start(setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        self.seen(setting, batch)
        return self.inner.value(setting, batch, prepared)


class Point(nn.Module):
    """One vector of parameters."""

    def __init__(self, *at: float) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at))


@dataclass(frozen=True)
class Along:
    """The inner product of a module's point with ``direction``: a constant gradient."""

    direction: tuple[float, ...]
    module: str = "model"
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> None:
        return None

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        at = setting.modules[self.module].at
        assert isinstance(at, Tensor)
        return (at * torch.tensor(self.direction)).sum()


@dataclass(frozen=True)
class Noise:
    """A source of its own noise."""

    def batch(self, setting: Setting, size: int, generator: torch.Generator) -> Batch:
        return {"noise": torch.randn(size, 3, generator=generator)}


def place(module: nn.Module) -> list[float]:
    found: list[float] = weights(module)["at"].tolist()
    return found


def point_problem(*at: float, companions: Mapping[str, nn.Module] | None = None) -> Problem:
    return replace(digits_problem(Point(*at)), companions=companions or {})


# ---- bits ----


def both(weight: float = 1.0, optimiser: Optimiser | None = None) -> Player:
    return Player(
        forget=Ascent(0.3),
        retain=Loss(weight),
        optimiser=optimiser or AdamW(1e-3, weight_decay=0.1),
    )


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    descent = Descent(both(), length=Epochs(3), batch_size=16)
    first = descent.minimise(digits_problem(), Run(seed=1)).model
    torch.rand(7)  # the global random numbers of the caller do not matter
    assert same_bits(first, descent.minimise(digits_problem(), Run(seed=1)).model)
    assert not same_bits(first, descent.minimise(digits_problem(), Run(seed=2)).model)


def test_a_descent_leaves_the_random_numbers_of_its_caller_alone() -> None:
    state = torch.get_rng_state()
    Descent(both(), length=Steps(3)).minimise(digits_problem(), Run())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_term_of_weight_zero_leaves_the_result_bit_identical() -> None:
    problem, optimiser = digits_problem(), AdamW(1e-3)
    alone = Descent(Player(forget=Ascent(), optimiser=optimiser), length=Steps(12), batch_size=16)
    seen: list[Batch] = []
    beside = Descent(
        Player(
            forget=Ascent(),
            retain=Loss(0.0),
            others={"more": On(Role.RETAIN, Watched(lambda _, b: seen.append(b), weight=0.0))},
            optimiser=optimiser,
        ),
        length=Steps(12),
        batch_size=16,
    )
    assert same_bits(alone.minimise(problem, Run()).model, beside.minimise(problem, Run()).model)
    assert not seen
    assert beside.access == Access.to(Role.FORGET)


def test_a_second_term_does_not_change_the_batches_of_the_first() -> None:
    def order(weight: float) -> list[Tensor]:
        seen: list[Tensor] = []
        watched = Watched(lambda _, b: seen.append(b["row"]), Ascent())
        player = Player(forget=watched, retain=Loss(weight), optimiser=AdamW(1e-3))
        Descent(player, length=Steps(9), batch_size=16).minimise(digits_problem(), Run())
        return seen

    assert all(map(torch.equal, order(0.0), order(1.0)))


@dataclass(frozen=True)
class NoisyDigits(Classifier):
    """Digits whose family draws noise on every picture."""

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        noise = torch.randn(batch["image"].shape, generator=generator)
        return {**batch, "image": batch["image"] + 0.1 * noise}


@dataclass(frozen=True)
class Nudged:
    """Drags the point of the companion ``judge`` along its batch, and the random numbers of its
    own."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = 4
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> None:
        return None

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        at = setting.modules["judge"].at
        assert isinstance(at, Tensor)
        own = torch.randn(3, generator=setting.generator())
        return (at * (batch["noise"].mean(0) + own)).sum() + at.square().sum()


STOP_AT, LENGTH, CHECKPOINT_EVERY = 17, 24, 5


def eventful(stop: Callable[[Setting, Batch], object]) -> Descent:
    """Everything that has a state: Adam, momentum, streams, draws, dropout, average, schedule."""
    return Descent(
        Player(
            forget=Ascent(0.1, every=2),
            retain=Watched(stop),
            optimiser=AdamW(2e-3, weight_decay=0.1, schedule=Cosine(0.2)),
        ),
        Player(
            "judge",
            others={"noise": On(Noise(), Nudged())},
            optimiser=SGD(0.01, momentum=0.9),
            every=2,
            start=1,
        ),
        length=Steps(LENGTH),
        batch_size=16,
        average=MovingAverage(0.9),
    )


def noisy_problem() -> Problem:
    return replace(
        digits_problem(), family=NoisyDigits(classes=10), companions={"judge": Point(1.0, 2.0, 3.0)}
    )


def stopped(folder: Path, problem: Problem) -> Run:
    """A run whose first attempt breaks off at step 17, after the checkpoint of step 15."""

    def stop(setting: Setting, batch: Batch) -> None:
        if setting.step == STOP_AT:
            raise KeyboardInterrupt

    run = Run(seed=3, checkpoints=folder, checkpoint_every=CHECKPOINT_EVERY)
    with pytest.raises(KeyboardInterrupt):
        eventful(stop).minimise(problem, run)
    return run


def test_a_resumed_descent_ends_in_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = eventful(lambda _, __: None).minimise(noisy_problem(), Run(seed=3))
    run, steps = stopped(tmp_path, noisy_problem()), []
    torch.rand(3)
    resumed = eventful(lambda s, _: steps.append(s.step)).minimise(noisy_problem(), run)
    assert steps == list(range(15, LENGTH))  # it went on; it did not start anew
    assert same_bits(whole.model, resumed.model)
    assert same_bits(whole.companions["judge"], resumed.companions["judge"])
    assert list(tmp_path.iterdir()) == []  # a finished descent leaves no state for the next


def test_the_checkpoint_of_another_request_is_not_resumed(tmp_path: Path) -> None:
    other = replace(noisy_problem(), request=Request("another", Rows("label", ("7",))))
    run, steps = stopped(tmp_path, noisy_problem()), []
    found = eventful(lambda s, _: steps.append(s.step)).minimise(other, run)
    assert steps == list(range(LENGTH))
    fresh = eventful(lambda _, __: None).minimise(other, Run(seed=3))
    assert same_bits(found.model, fresh.model)


def test_the_checkpoint_of_other_hyper_parameters_is_not_resumed(tmp_path: Path) -> None:
    run, steps = stopped(tmp_path, noisy_problem()), []
    descent = eventful(lambda s, _: steps.append(s.step))
    descent.average = MovingAverage(0.5)
    descent.minimise(noisy_problem(), run)
    assert steps == list(range(LENGTH))


@pytest.mark.parametrize("changed", ["image", "ids", "judge"])
def test_the_checkpoint_of_other_data_is_not_resumed(changed: str, tmp_path: Path) -> None:
    other = noisy_problem()
    retain = other.data[Role.RETAIN]
    assert isinstance(retain, TensorSamples)
    if changed == "image":
        image = retain.columns["image"].clone()
        image[-1, -1] += 1
        retain = retain.with_column("image", image)
    elif changed == "ids":
        retain = replace(retain, ids=["another", *retain.ids[1:]])
    else:
        other = replace(other, companions={"judge": Point(1.0, 2.0, 4.0)})
    other = replace(other, data={**other.data, Role.RETAIN: retain})
    run, steps = stopped(tmp_path, noisy_problem()), []
    eventful(lambda s, _: steps.append(s.step)).minimise(other, run)
    assert steps == list(range(LENGTH))


def test_a_guarded_descent_resumes_without_reaching_behind_the_guard(tmp_path: Path) -> None:
    access, steps = eventful(lambda _, __: None).access, []
    run = stopped(tmp_path, noisy_problem().opened(access))
    again = noisy_problem().opened(access)
    eventful(lambda s, _: steps.append(s.step)).minimise(again, run)
    assert steps == list(range(15, LENGTH))


# ---- what stays as it is ----


@dataclass(frozen=True)
class Masked:
    """Every parameter, about half of its entries."""

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        return {n: mask(p) for n, p in module.named_parameters()}


def mask(parameter: Tensor) -> Tensor:
    drawn = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return drawn < 0.5


@pytest.mark.parametrize(
    "optimiser",
    [SGD(0.1, momentum=0.9, weight_decay=0.1, nesterov=True), AdamW(0.01, weight_decay=0.5)],
    ids=["momentum", "adam"],
)
def test_masked_entries_keep_their_bits_under_momentum_and_decay(optimiser: Optimiser) -> None:
    problem = digits_problem()
    player = Player(forget=Ascent(0.1), retain=Loss(), parameters=Masked(), optimiser=optimiser)
    after = Descent(player, length=Steps(10), batch_size=16).minimise(problem, Run()).model
    before, moved = weights(problem.model), weights(after)
    for name, old in before.items():
        assert torch.equal(moved[name][~mask(old)], old[~mask(old)])
        assert not torch.equal(moved[name][mask(old)], old[mask(old)])


def test_the_modules_of_the_problem_are_never_changed() -> None:
    model, judge = network(), Point(1.0, 2.0, 3.0)
    model.eval()
    problem = replace(noisy_problem(), model=model, companions={"judge": judge})
    before = digest_of(model), digest_of(judge)
    found = eventful(lambda _, __: None).minimise(problem, Run())
    assert (digest_of(model), digest_of(judge)) == before
    assert digest_of(found.model) != before[0]
    assert digest_of(found.companions["judge"]) != before[1]
    assert not model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_the_result_requires_gradients_and_trains_as_the_model_did(training: bool) -> None:
    model = network().train(training)
    assert isinstance(model, nn.Sequential)
    model[0].requires_grad_(False)
    after = Descent(both(), length=Steps(4)).minimise(digits_problem(model), Run()).model
    assert [p.requires_grad for p in after.parameters()] == [False, False, True, True]
    assert [m.training for m in after.modules()] == [training] * 5
    before, moved = weights(model), weights(after)
    assert {n for n in before if torch.equal(before[n], moved[n])} == {"0.weight", "0.bias"}


@pytest.mark.parametrize("training", [True, False])
def test_a_player_says_whether_its_module_is_in_training_mode(training: bool) -> None:
    modes: set[bool] = set()
    watched = Watched(lambda s, _: modes.add(s.model.training))
    player = Player(forget=watched, training=training)
    Descent(player, length=Steps(2)).minimise(digits_problem(), Run())
    assert modes == {training}


def test_what_the_owner_froze_in_evaluation_mode_stays_so_inside_a_training_model() -> None:
    model = network().train()
    assert isinstance(model, nn.Sequential)
    model[2].eval()
    modes = [module.training for module in model.modules()]
    seen: set[tuple[bool, ...]] = set()

    def look(setting: Setting, batch: Batch) -> None:
        seen.add(tuple(m.training for m in setting.model.modules()))

    watched = Watched(look)
    for start, training, expected in (
        (model, True, tuple(modes)),
        (network().eval(), True, (True,) * 5),  # models in use are in evaluation mode
        (model, False, (False,) * 5),
    ):
        seen.clear()
        before = [module.training for module in start.modules()]
        descent = Descent(Player(forget=watched, training=training), length=Steps(2))
        after = descent.minimise(digits_problem(start), Run()).model
        assert seen == {expected}
        assert [module.training for module in after.modules()] == before
        assert [module.training for module in start.modules()] == before


def normed() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


def one_of(rows: int) -> Problem:
    chosen = digits().select(torch.arange(rows))
    return replace(digits_problem(normed()), data={Role.FORGET: chosen})


def test_a_trailing_batch_of_one_row_is_part_of_the_batch_before_it() -> None:
    sizes: list[int] = []
    watched = Watched(lambda _, b: sizes.append(len(b["row"])))
    descent = Descent(Player(forget=watched), length=Epochs(2), batch_size=4)
    descent.minimise(one_of(9), Run())
    assert sizes == [4, 5, 4, 5]
    sizes.clear()
    descent.minimise(one_of(8), Run())
    assert sizes == [4, 4, 4, 4]
    sizes.clear()
    Descent(Player(forget=watched, training=False), length=Epochs(1), batch_size=1).minimise(
        one_of(3), Run()
    )
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 9, 33])
@pytest.mark.parametrize("size", [1, 2, 4, 32])
def test_the_length_of_a_pass_is_that_of_the_stream(rows: int, size: int) -> None:
    stream = Stream(digits().select(torch.arange(rows)), size, None, torch.Generator())
    steps = Epochs(1).steps(lambda _: rows, size)
    seen = torch.cat([stream.next()["row"] for _ in range(steps)])
    assert seen.sort().values.tolist() == list(range(rows))


def test_batch_norm_on_one_row_is_refused_in_training_mode_alone() -> None:
    with pytest.raises(ExpungeError, match=r"forget term holds one row.*training=False"):
        Descent(Player(forget=Ascent()), length=Steps(1)).minimise(one_of(1), Run())
    Descent(Player(forget=Ascent(), training=False), length=Steps(1)).minimise(one_of(1), Run())


def test_a_companion_that_does_not_play_is_at_hand_and_frozen() -> None:
    judge = network().train()
    seen: list[nn.Module] = []

    def look(setting: Setting, batch: Batch) -> None:
        seen.append(setting.modules["judge"])

    problem = replace(digits_problem(), companions={"judge": judge})
    found = Descent(Player(forget=Watched(look)), length=Steps(2)).minimise(problem, Run())
    assert not any(m.training for m in seen[0].modules())
    assert not any(p.requires_grad for p in seen[0].parameters())
    assert judge.training
    assert all(p.requires_grad for p in judge.parameters())
    assert found.companions == {}


def test_the_reference_is_the_model_at_the_start_and_goes_with_the_descent() -> None:
    problem, seen = digits_problem(), []

    def look(setting: Setting, batch: Batch) -> None:
        reference = setting.reference()
        assert same_bits(reference, problem.model)
        assert not reference.training
        seen.append(weakref.ref(reference))

    Descent(Player(forget=Watched(look), optimiser=AdamW(1e-2)), length=Steps(3)).minimise(
        problem, Run()
    )
    gc.collect()
    assert len(seen) == 3
    assert all(reference() is None for reference in seen)


# ---- players, sources, periods ----


def test_players_move_in_turn_and_only_their_own_weights() -> None:
    moves: list[tuple[str, int]] = []

    def moved(name: str) -> Callable[[Setting, Batch], object]:
        return lambda setting, _: moves.append((name, setting.step))

    problem = point_problem(1.0, 1.0, companions={"judge": Point(1.0, 1.0)})
    descent = Descent(
        Player(
            others={"own": On(Noise(), Watched(moved("model"), Along((1.0, 0.0))))},
            optimiser=SGD(1.0),
            start=4,
        ),
        Player(
            "judge",
            # its value depends on the model's point too, which it must not move
            others={
                "own": On(Noise(), Watched(moved("judge"), Along((0.0, 1.0), "judge"))),
                "other": On(Noise(), Along((5.0, 5.0), "model")),
            },
            optimiser=SGD(1.0),
            every=3,
            start=1,
        ),
        length=Steps(8),
    )
    found = descent.minimise(problem, Run())
    assert moves == [
        *[("judge", 1), ("model", 4), ("judge", 4), ("model", 5), ("model", 6)],
        *[("model", 7), ("judge", 7)],
    ]
    assert place(found.model) == [-3.0, 1.0]
    assert place(found.companions["judge"]) == [1.0, -2.0]


def test_a_term_acts_at_its_period() -> None:
    problem = point_problem(0.0, 0.0)
    player = Player(
        others={
            "each": On(Noise(), Along((1.0, 0.0))),
            "fourth": On(Noise(), Along((0.0, 1.0), every=4)),
        },
        optimiser=SGD(1.0),
    )
    found = Descent(player, length=Steps(9)).minimise(problem, Run()).model
    assert place(found) == [-9.0, -3.0]


def test_batches_of_a_source_reach_the_term_as_they_are() -> None:
    class Undrawn(Classifier):
        def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
            raise AssertionError("a source's batch is drawn already")

    seen: list[Batch] = []
    watched = Watched(lambda _, b: seen.append(b), Along((1.0,)), batch_size=6)
    problem = replace(point_problem(0.0), family=Undrawn())
    descent = Descent(Player(others={"own": On(Noise(), watched)}), length=Steps(3))
    descent.minimise(problem, Run())
    first = [batch["noise"] for batch in seen]
    descent.minimise(problem, Run())
    assert [tuple(noise.shape) for noise in first] == [(6, 3)] * 3
    assert not torch.equal(first[0], first[1])
    assert all(map(torch.equal, first, (batch["noise"] for batch in seen[3:])))
    assert descent.access == Access()


@dataclass(frozen=True)
class Made:
    """A source that the live modules make: twice the model's point."""

    made: list[Tensor] = field(default_factory=list, repr=False)

    def batch(self, setting: Setting, size: int, generator: torch.Generator) -> Batch:
        point = setting.model.at
        assert isinstance(point, Tensor)
        self.made.append(2 * point)
        return {"point": self.made[-1]}


def test_what_a_source_makes_of_the_live_model_carries_no_gradient() -> None:
    source = Made()
    mover = Player(others={"own": On(source, Along((1.0,)))}, optimiser=SGD(1.0))
    problem = point_problem(4.0, companions={"judge": Point(0.0)})
    judge = replace(mover, module="judge", others={"own": On(source, Along((1.0,), "judge"))})
    Descent(mover, judge, length=Steps(2)).minimise(problem, Run())
    assert [float(made) for made in source.made] == [8.0, 6.0, 6.0, 4.0]  # live: it follows
    assert not any(made.requires_grad for made in source.made)


def test_the_random_numbers_of_a_term_are_its_own_and_the_same_at_each_call() -> None:
    drawn: dict[tuple[str, int], float] = {}

    def draw(name: str) -> Callable[[Setting, Batch], object]:
        def look(setting: Setting, batch: Batch) -> None:
            twice = [float(torch.rand((), generator=setting.generator())) for _ in range(2)]
            assert twice[0] == twice[1]
            drawn[name, setting.step] = twice[0]

        return look

    player = Player(forget=Watched(draw("forget")), retain=Watched(draw("retain")))
    Descent(player, length=Steps(3)).minimise(digits_problem(), Run())
    assert len(set(drawn.values())) == 6


@dataclass(frozen=True)
class Brighter:
    """An adversary that shifts the pictures of one term."""

    term: str
    shift: float

    def perturbed(self, setting: Setting, term: str, batch: Batch) -> Batch:
        shifted = batch["image"] + (self.shift if term == self.term else 0.0)
        return {**batch, "image": shifted}


def test_the_batch_of_the_adversary_is_what_the_term_sees() -> None:
    adversary: Adversary = Brighter("forget", 2.0)
    brightness: dict[str, set[float]] = {"forget": set(), "retain": set()}

    def see(name: str) -> Callable[[Setting, Batch], object]:
        def look(setting: Setting, batch: Batch) -> None:
            own = digits_problem().data[Role(name)].batch(batch["row"])["image"]
            brightness[name].add(round(float((batch["image"] - own).mean()), 4))

        return look

    player = Player(forget=Watched(see("forget"), Ascent()), retain=Watched(see("retain")))
    Descent(player, length=Steps(3), adversary=adversary).minimise(digits_problem(), Run())
    assert brightness == {"forget": {2.0}, "retain": {0.0}}


def test_each_pass_of_a_stream_visits_every_row_once() -> None:
    samples = digits_problem().data[Role.FORGET]
    stream = Stream(samples, 16, frozenset({"label"}), torch.Generator().manual_seed(0))
    steps = Epochs(1).steps(lambda _: len(samples), 16)
    batches = [stream.next() for _ in range(2 * steps)]
    passes = [torch.cat([b["row"] for b in batches[i : i + steps]]) for i in (0, steps)]
    assert all(set(batch) == {"label", "row"} for batch in batches)
    for rows in passes:
        assert rows.sort().values.tolist() == list(range(len(samples)))
    assert not torch.equal(passes[0], passes[1])


def test_a_descent_counts_the_rows_it_touched() -> None:
    run = Run()
    player = Player(forget=Ascent(every=2), retain=Loss(batch_size=8))
    Descent(player, length=Steps(6), batch_size=4).minimise(digits_problem(), run)
    assert run.meter.touched == {"forget": 3 * 4, "retain": 6 * 8}


# ---- transforms ----


@dataclass(frozen=True)
class Compared:
    """Hands on the gradients of a transform, and keeps them beside those of the terms."""

    inner: Transform
    seen: list[tuple[dict[str, Tensor], Tensor]] = field(default_factory=list)

    def gradients(self, at: StepGradients) -> list[Tensor]:
        terms = {name: flat(gradient) for name, gradient in at.per_term().items()}
        found = self.inner.gradients(at)
        self.seen.append((terms, flat(found)))
        return found


def flat(gradient: list[Tensor]) -> Tensor:
    return torch.cat([piece.reshape(-1) for piece in gradient])


def compared(transform: Transform, player: Player) -> list[tuple[dict[str, Tensor], Tensor]]:
    watching = Compared(transform)
    Descent(player, length=Steps(8), batch_size=64, transform=watching).minimise(
        digits_problem(), Run()
    )
    return watching.seen


def test_projected_gradients_oppose_no_term_on_digits() -> None:
    player = Player(forget=Ascent(), others={"retain": On(Role.FORGET, Loss())}, optimiser=SGD(0.1))
    for terms, found in compared(ProjectConflicts(), player):
        forget, retain = terms["forget"], terms["retain"]
        assert torch.dot(forget, retain) < -0.5 * forget.norm() * retain.norm()
        for own in (forget, retain):
            assert torch.dot(found, own) >= -1e-5 * forget.norm() * retain.norm()


pairs = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3).filter(
    lambda v: sum(x * x for x in v) > 1e-3
)


def at_point(*directions: list[float]) -> StepGradients:
    point = nn.Parameter(torch.zeros(3))
    values: dict[str, Callable[[], Tensor]] = {
        str(i): (lambda d=d: (point * torch.tensor(d)).sum())  # type: ignore[misc]
        for i, d in enumerate(directions)
    }
    return StepGradients((point,), values, (None,))


@given(pairs, pairs)
def test_projection_of_two_gradients_opposes_neither_and_adds_them_where_they_agree(
    first: list[float], second: list[float]
) -> None:
    one, two = torch.tensor(first), torch.tensor(second)
    (found,) = ProjectConflicts().gradients(at_point(first, second))
    scale = float(one.norm() + two.norm())
    for own in (one, two):
        assert float(torch.dot(found, own)) >= -1e-5 * scale * float(own.norm())
    if torch.dot(one, two) >= 0:
        assert torch.equal(found, one + two)


@given(pairs, st.floats(0.01, 20.0))
def test_clipping_bounds_the_norm_and_keeps_the_direction(
    direction: list[float], limit: float
) -> None:
    gradient = torch.tensor(direction)
    (found,) = ClipNorm(limit).gradients(at_point(direction))
    assert float(found.norm()) <= limit * (1 + 1e-5)
    if float(gradient.norm()) < limit * (1 - 1e-6):
        assert torch.equal(found, gradient)
    assert torch.allclose(
        F.normalize(found, dim=0), F.normalize(gradient, dim=0), atol=1e-5, rtol=0
    )


def test_the_clipped_norm_is_over_all_parameters_and_terms_together() -> None:
    for terms, found in compared(ClipNorm(0.05), both(optimiser=SGD(0.1))):
        total = terms["forget"] + terms["retain"]
        assert total.norm() > 0.05
        assert float(found.norm()) == pytest.approx(0.05, rel=1e-5)
        assert torch.allclose(found / found.norm(), total / total.norm(), atol=1e-5)


def test_a_second_look_at_the_same_weights_sees_the_same_gradient_under_dropout() -> None:
    looks: list[tuple[Tensor, Tensor]] = []

    class Twice:
        def gradients(self, at: StepGradients) -> list[Tensor]:
            looks.append((flat(at.total()), flat(at.total())))
            return at.total()

    Descent(both(), length=Steps(4), transform=Twice()).minimise(digits_problem(), Run())
    assert all(torch.equal(first, second) for first, second in looks)
    assert not torch.equal(looks[0][0], looks[1][0])


# ---- the average ----


def walked(average: MovingAverage | None) -> Descended:
    player = Player(others={"own": On(Noise(), Along((1.0, -2.0)))}, optimiser=SGD(0.5))
    return Descent(player, length=Steps(6), average=average).minimise(
        point_problem(3.0, 1.0), Run()
    )


def test_the_moving_average_follows_its_recursion() -> None:
    averaged = torch.tensor([3.0, 1.0])
    for step in range(1, 7):
        at = torch.tensor([3.0 - 0.5 * step, 1.0 + step])
        averaged = 0.8 * averaged + 0.2 * at
    assert place(walked(MovingAverage(0.8)).model) == pytest.approx(averaged.tolist())
    assert place(walked(None).model) == [0.0, 7.0]
    assert same_bits(walked(MovingAverage(0.0)).model, walked(None).model)


# ---- errors ----


@dataclass(frozen=True)
class Broken(Along):
    """Not a number from the third step on."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        found = super().value(setting, batch, prepared)
        return found if setting.step < 2 else found * float("nan")


def test_a_loss_that_is_not_finite_names_its_term_and_step() -> None:
    player = Player(others={"prior": On(Noise(), Broken((1.0,)))})
    with pytest.raises(ExpungeError, match=r"The prior term became nan at step 2; a finite value"):
        Descent(player, length=Steps(5)).minimise(point_problem(1.0), Run())


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    player = Player(others={"own": On(Noise(), Along((2.0,)))}, optimiser=SGD(3e38))
    with pytest.raises(ExpungeError, match=r"'at' of 'model' is no longer finite"):
        Descent(player, length=Steps(1)).minimise(point_problem(1.0), Run())


def test_a_player_without_parameters_is_refused() -> None:
    frozen = network().requires_grad_(False)
    with pytest.raises(ExpungeError, match=r"No parameter of 'model' was selected.*'0.weight'"):
        Descent(both(), length=Steps(1)).minimise(digits_problem(frozen), Run())


def test_a_descent_reads_only_the_fields_of_its_terms() -> None:
    @dataclass(frozen=True)
    class Unlabelled(Ascent):
        fields: Fields = frozenset({"image"})

        def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
            assert set(batch) == {"image", "row"}
            return able(setting.family, HasLoss).losses(setting.model, batch).mean()

    descent = Descent(Player(forget=Unlabelled()), length=Steps(1))
    assert descent.access == Access({Role.FORGET: frozenset({"image"})})
    problem = digits_problem()
    with pytest.raises(ExpungeError, match=r"field 'label' of the rows is needed.*have image;"):
        descent.minimise(problem.opened(descent.access), Run())
    labelled = Descent(Player(forget=Ascent()), length=Steps(1))
    with pytest.raises(AccessError, match="retain"):
        Descent(both(), length=Steps(1)).minimise(problem.opened(labelled.access), Run())


def test_a_descent_without_a_step_is_refused() -> None:
    for length in (Steps(0), Epochs(0)):
        with pytest.raises(ExpungeError, match="has 0 steps and would change nothing"):
            Descent(both(), length=length).minimise(digits_problem(), Run())


def test_a_layer_that_no_loss_reads_is_said_and_not_shrunk_in_silence() -> None:
    class Idle(nn.Module):
        """The network beside a layer that nothing asks."""

        def __init__(self) -> None:
            super().__init__()
            self.read, self.idle = network(), nn.Linear(3, 2)

        def forward(self, images: Tensor) -> Tensor:
            answer: Tensor = self.read(images)
            return answer

    problem = digits_problem(Idle())
    descent = Descent(
        Player(forget=Ascent(), optimiser=SGD(1e-3, weight_decay=0.1)), length=Steps(3)
    )
    with pytest.warns(UserWarning, match=r"reached 'idle.bias' and 1 others; weight decay alone"):
        moved = descent.minimise(problem, Run()).model
    before, after = (dict(m.named_parameters())["idle.weight"] for m in (problem.model, moved))
    assert after.detach().norm() < before.detach().norm()
    undecayed = Descent(Player(forget=Ascent(), optimiser=SGD(1e-3)), length=Steps(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = undecayed.minimise(problem, Run()).model
        assert torch.equal(before, dict(kept.named_parameters())["idle.weight"])
        problem.model.get_submodule("idle").requires_grad_(False)
        descent.minimise(problem, Run())
