"""Ridge regression that rows come to and go from: the facts of ACU's card, on real digits."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.learning.supervised.ridge import (
    Chunk,
    Recursion,
    Resolve,
    Sign,
    Solved,
    Solver,
    Sums,
    step,
)
from expunge.learning.supervised.ridge_head import rounded
from expunge.models.random_features import RandomReLU

OPEN = Recursion(least=0.0, drift=1e300, every=10**9, worst=1e300)
"""The recursion without its guards."""

SOLVERS: tuple[Solver, ...] = (Resolve(), Recursion())


@pytest.fixture(scope="module")
def digits() -> Chunk:
    """1,797 digits, 300 random features, rounded as a ridge head rounds them."""
    pixels, labels = load_digits(return_X_y=True)
    features = RandomReLU(64, 300)(torch.tensor(pixels / 16, dtype=torch.float32))
    return Chunk(rounded(features.double(), 14), F.one_hot(torch.tensor(labels), 10).double())


def some(rows: Chunk, where: slice | Tensor) -> Chunk:
    return Chunk(rows.features[where], rows.targets[where])


def learned(rows: Chunk, solver: Solver, ridge: float) -> Solved:
    width, classes = rows.features.shape[1], rows.targets.shape[1]
    nothing = Sums.none(width, classes, rows.features.dtype)
    return solver.anew(nothing.moved(rows, 1), ridge)


def course(
    solved: Solved, solver: Solver, ridge: float, moves: Iterable[tuple[Chunk, Sign]]
) -> tuple[Solved, list[str]]:
    """After one request after another, and why each was solved anew."""
    why: list[str] = []
    for rows, sign in moves:
        solved = solver.moved(solved, ridge, [rows], sign)
        why.append(solved.why)
    return solved, why


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def removals(rows: Chunk, count: int, each: int) -> list[tuple[Chunk, Sign]]:
    return [(some(rows, slice(at, at + each)), -1) for at in range(0, count, each)]


@pytest.mark.parametrize("ridge", [1e-3, 1e-1, 1.0])
def test_a_hundred_removals_end_at_the_retrained_weights(digits: Chunk, ridge: float) -> None:
    wanted = learned(some(digits, slice(500, None)), Resolve(), ridge)
    moves = removals(digits, 500, 5)
    solved, _ = course(learned(digits, Resolve(), ridge), Resolve(), ridge, moves)
    assert torch.equal(solved.head, wanted.head)
    assert torch.equal(solved.sums.gram, wanted.sums.gram)
    for solver in (OPEN, Recursion()):
        solved, why = course(learned(digits, solver, ridge), solver, ridge, moves)
        assert apart(solved.head, wanted.head) < 1e-10  # measured 7e-12, 4e-12, 7e-13
        assert set(why) == {""}
        assert solved.since == 100


def test_in_single_precision_the_recursion_is_off_by_far_more(digits: Chunk) -> None:
    single = Chunk(digits.features.float(), digits.targets.float())
    wanted = learned(some(digits, slice(500, None)), Resolve(), 1.0)
    solved, _ = course(learned(single, OPEN, 1.0), OPEN, 1.0, removals(single, 500, 5))
    assert 1e-6 < apart(solved.head.double(), wanted.head) < 1e-3  # measured 3e-4


@pytest.mark.parametrize(("count", "gone"), [(500, 400), (400, 300)])
def test_with_fewer_rows_than_features_left_the_guards_fire_and_the_head_is_exact(
    digits: Chunk, count: int, gone: int
) -> None:
    few, ridge = some(digits, slice(count)), 1e-3
    moves = removals(few, gone, 5)
    wanted = learned(some(few, slice(gone, None)), Resolve(), ridge)
    unguarded, _ = course(learned(few, OPEN, ridge), OPEN, ridge, moves)
    assert apart(unguarded.head, wanted.head) > 1e-9  # measured 1e-7 and 1e-8
    guarded, why = course(learned(few, Recursion(), ridge), Recursion(), ridge, moves)
    assert apart(guarded.head, wanted.head) < 1e-10
    assert why.count("drift") > 5
    assert why.count("") > 5  # it goes on with the recursion where that is safe


def test_single_precision_is_refused_by_the_guard_when_few_rows_are_left(digits: Chunk) -> None:
    few = some(Chunk(digits.features.float(), digits.targets.float()), slice(500))
    guarded = Recursion(drift=1e-4)
    _, why = course(learned(few, guarded, 0.1), guarded, 0.1, removals(few, 400, 5))
    assert set(why) == {"drift"}


def test_the_estimated_drift_is_the_distance_to_the_retrained_weights(digits: Chunk) -> None:
    few = some(digits, slice(500))
    wanted = learned(some(few, slice(400, None)), Resolve(), 1e-3)
    solved, _ = course(learned(few, OPEN, 1e-3), OPEN, 1e-3, removals(few, 400, 5))
    assert solved.drift == pytest.approx(apart(solved.head, wanted.head), rel=0.05)


@settings(max_examples=15)
@given(order=st.permutations(range(8)), signs=st.lists(st.booleans(), min_size=8, max_size=8))
def test_any_order_of_adding_and_removing_ends_at_the_same_weights(
    digits: Chunk, order: list[int], signs: list[bool]
) -> None:
    """Eight groups of 20 rows, of which some are there at the start and leave, the others come."""
    groups = [some(digits, slice(600 + 20 * n, 620 + 20 * n)) for n in range(8)]
    rest = some(digits, slice(600))

    def of(chosen: bool) -> Chunk:
        there = [rest, *(g for g, leaves in zip(groups, signs, strict=True) if leaves == chosen)]
        return Chunk(*(torch.cat([getattr(g, n) for g in there]) for n in ("features", "targets")))

    wanted = learned(of(False), Resolve(), 0.1)
    for solver in SOLVERS:
        moves: list[tuple[Chunk, Sign]] = [(groups[n], -1 if signs[n] else 1) for n in order]
        solved, _ = course(learned(of(True), solver, 0.1), solver, 0.1, moves)
        assert torch.equal(solved.sums.gram, wanted.sums.gram)
        assert torch.equal(solved.sums.cross, wanted.sums.cross)
        if solver == Resolve():
            assert torch.equal(solved.head, wanted.head)
        assert apart(solved.head, wanted.head) < 1e-10


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_added_and_removed_again_returns_the_start(digits: Chunk, solver: Solver) -> None:
    start, more = learned(some(digits, slice(900)), solver, 0.1), some(digits, slice(900, 940))
    for first, then in ((1, -1), (-1, 1)):
        rows = more if first == 1 else some(digits, slice(40))
        solved, _ = course(start, solver, 0.1, [(rows, first), (rows, then)])  # type: ignore[list-item]
        assert torch.equal(solved.sums.gram, start.sums.gram)
        assert torch.equal(solved.sums.cross, start.sums.cross)
        assert torch.equal(solved.sums.counts, start.sums.counts)
        assert apart(solved.head, start.head) < 1e-11
        if start.inverse is not None and solved.inverse is not None:
            assert apart(solved.inverse, start.inverse) < 1e-10
            assert torch.equal(solved.inverse, solved.inverse.T)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_removed_class_leaves_the_columns_of_a_training_without_it(
    digits: Chunk, solver: Solver
) -> None:
    three = digits.targets[:, 3] == 1
    solved, why = course(learned(digits, solver, 0.1), solver, 0.1, [(some(digits, three), -1)])
    others = some(digits, ~three)
    kept = torch.arange(10) != 3
    nine = learned(Chunk(others.features, others.targets[:, kept]), Resolve(), 0.1)
    assert apart(solved.head[:, kept], nine.head) < 1e-11
    assert torch.equal(solved.head[:, 3], torch.zeros(300, dtype=torch.float64))
    assert why == [""]


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_any_row_the_weights_are_zero(digits: Chunk, solver: Solver) -> None:
    solved, why = course(learned(digits, solver, 0.1), solver, 0.1, [(digits, -1)])
    assert torch.equal(solved.head, torch.zeros(300, 10, dtype=torch.float64))
    assert torch.equal(solved.sums.gram, torch.zeros(300, 300, dtype=torch.float64))
    if solved.inverse is not None:
        assert torch.allclose(solved.inverse, torch.eye(300, dtype=torch.float64) / 0.1)
        assert why == ["rows"]  # 1,797 rows of 300 features are cheaper to solve anew


def test_one_row_is_the_case_of_sherman_and_morrison(digits: Chunk) -> None:
    """R' = R + (Rf)(Rf)^T / s, W' = W - Rf (y - f^T W) / s, s = 1 - f^T R f; and what is left of a
    forgotten row afterwards is its error divided by s: leave-one-out without retraining."""
    start = learned(digits, Recursion(), 0.1)
    assert start.inverse is not None
    [f], [y] = digits.features[7:8], digits.targets[7:8]
    after = step(start.inverse, start.head, some(digits, slice(7, 8)), -1)
    assert after is not None
    inverse, head = after
    seen, s = start.inverse @ f, 1 - f @ start.inverse @ f
    assert torch.allclose(inverse, start.inverse + torch.outer(seen, seen) / s, atol=1e-12)
    missed = y - f @ start.head
    assert torch.allclose(head, start.head - torch.outer(seen, missed) / s, atol=1e-12)
    assert torch.allclose(y - f @ head, missed / s, atol=1e-11)


def test_what_is_carried_on_is_symmetric_in_every_bit(digits: Chunk) -> None:
    start = learned(digits, Recursion(), 0.1)
    assert start.inverse is not None
    tilted = start.inverse + 1e-9 * torch.triu(torch.ones_like(start.inverse), 1)
    after = step(tilted, start.head, some(digits, slice(5)), -1)
    assert after is not None
    assert torch.equal(after[0], after[0].T)


def test_a_request_is_answered_alike_in_one_piece_and_in_many(digits: Chunk) -> None:
    start, gone = learned(digits, OPEN, 0.1), some(digits, slice(290))
    whole = OPEN.moved(start, 0.1, [gone], -1)
    parts = OPEN.moved(start, 0.1, gone.split(7), -1)
    assert whole.why == parts.why == ""
    assert apart(parts.head, whole.head) < 1e-11


GUARDS: dict[str, Callable[[Recursion], Recursion]] = {
    "leverage": lambda sound: replace(sound, least=0.999),
    "drift": lambda sound: replace(sound, drift=0.0),
    "turn": lambda sound: replace(sound, every=0),
}


@pytest.mark.parametrize("why", GUARDS)
def test_a_guard_solves_anew_says_why_and_the_recursion_goes_on(digits: Chunk, why: str) -> None:
    guarded, gone = GUARDS[why](Recursion()), some(digits, slice(10))
    solved = guarded.moved(learned(digits, Recursion(), 0.1), 0.1, [gone], -1)
    assert solved.why == why
    assert solved.drift is None
    assert solved.since == 0
    wanted = learned(some(digits, slice(10, None)), Recursion(), 0.1)
    assert torch.equal(solved.head, wanted.head)
    again = Recursion().moved(solved, 0.1, [some(digits, slice(10, 20))], -1)
    assert (again.why, again.since) == ("", 1)


def test_rows_that_were_never_there_leave_no_matrix_to_solve(digits: Chunk) -> None:
    few = some(digits, slice(200))
    for solver in SOLVERS:
        with pytest.raises(ExpungeError, match="taken away, some of them were never in the sums"):
            course(learned(few, solver, 0.1), solver, 0.1, removals(digits, 400, 400))


def test_a_ridge_that_rounding_loses_is_not_put_down_to_removals_alone(digits: Chunk) -> None:
    """Learning takes nothing away: 300 features of 2 rows, with a ridge below the last bit."""
    for solver in SOLVERS:
        with pytest.raises(ExpungeError, match="the ridge is lost in rounding, or, where rows"):
            learned(some(digits, slice(2)), solver, 1e-300)


@pytest.mark.parametrize("given", [{"every": -1}, {"worst": -3.0}, {"least": -1e-8}, {"drift": -1}])
def test_guards_that_cannot_be_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ExpungeError, match="at least 1 for the condition number"):
        Recursion(**given)
    if "worst" in given:
        with pytest.raises(ExpungeError, match="condition number of at most -3"):
            Resolve(**given)


def test_an_ill_conditioned_solution_is_refused(digits: Chunk) -> None:
    few = some(digits, slice(200))
    for solver in (Resolve(worst=1e5), Recursion(least=2.0, worst=1e5)):
        start = learned(few, replace(solver, worst=1e300), 1e-3)
        with pytest.raises(
            ExpungeError, match="their 300 features have a condition number of about"
        ):
            solver.moved(start, 1e-3, [some(few, slice(5))], -1)
