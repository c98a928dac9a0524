"""Confined vectors: the regression that they solve, its limits, and requests in a row on digits."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.fold import fold
from expunge.aggregation.sum import Sum
from expunge.audit.measure import Panel, measure
from expunge.benchmarks.continual_digits import METHOD
from expunge.benchmarks.shipped import Work, digits_dual_encoder
from expunge.changes.delta import Delta
from expunge.deployment import Deployment
from expunge.errors import ExpungeError, IntegrityError
from expunge.methods.confined import DAMPING, Confined, ConfinedNegation, confined
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.protocol import Method, unlearn
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

GENERATOR = torch.Generator().manual_seed(0)
NEGATION = ConfinedNegation(8, 1e-3, 0.0, 32)


def moments(rows: Tensor) -> dict[str, Tensor]:
    return {"weight": rows.T @ rows / len(rows)}


def solved(
    vector: Tensor, of: Mapping[str, Tensor], everywhere: Mapping[str, Tensor], by: float
) -> Tensor:
    entry = confined(Delta("base", {"weight": vector}), of, everywhere, by).entries["weight"]
    assert isinstance(entry, Tensor)
    return entry


def test_the_confined_matrix_minimises_what_it_says() -> None:
    vector = torch.randn(4, 6, generator=GENERATOR).double()
    asked, others = (torch.randn(50, 6, generator=GENERATOR).double() for _ in range(2))
    of, everywhere = moments(asked), moments(others)
    found = (solved(vector, of, everywhere, 3.0) / 4.0).requires_grad_()
    both = of["weight"] + 3.0 * everywhere["weight"]
    loss = ((found - vector) @ asked.T).square().sum() / 50
    loss = loss + 3.0 * (found @ others.T).square().sum() / 50
    loss = loss + DAMPING * both.diagonal().mean() * found.square().sum()
    [slope] = torch.autograd.grad(loss, found)
    assert slope.abs().max() < 1e-6  # convex: this is the minimum


def test_of_a_pruned_matrix_it_is_the_minimum_among_the_weights_that_there_are() -> None:
    """A dense solution that is cut to the mask is not: it acts on the others' inputs again."""
    vector = torch.randn(4, 6, generator=GENERATOR).double()
    mask = torch.rand(4, 6, generator=GENERATOR) < 0.6
    mask[2] = False  # a row of which nothing is left
    vector = vector * mask
    asked, others = (torch.randn(50, 6, generator=GENERATOR).double() for _ in range(2))
    of, everywhere = moments(asked), moments(others)
    given = Delta("base", {"weight": vector})
    entry = confined(given, of, everywhere, 3.0, {"weight": mask}).entries["weight"]
    assert isinstance(entry, Tensor)
    assert not entry[~mask].any()
    both = of["weight"] + 3.0 * everywhere["weight"]

    def loss(change: Tensor) -> Tensor:
        found = ((change - vector) @ asked.T).square().sum() / 50
        found = found + 3.0 * (change @ others.T).square().sum() / 50
        return found + DAMPING * both.diagonal().mean() * change.square().sum()

    found = (entry / 4.0).requires_grad_()
    [slope] = torch.autograd.grad(loss(found), found)
    assert slope[mask].abs().max() < 1e-6
    cut = solved(vector, of, everywhere, 3.0) / 4.0 * mask
    assert loss(found) < loss(cut)
    everything = {"weight": torch.ones(4, 6, dtype=torch.bool)}
    whole = confined(given, of, everywhere, 3.0, everything).entries["weight"]
    assert isinstance(whole, Tensor)
    assert torch.allclose(whole, solved(vector, of, everywhere, 3.0))


def test_inputs_of_its_own_are_answered_as_before_and_all_others_not_at_all() -> None:
    vector = torch.randn(4, 6, generator=GENERATOR)
    asked, others = torch.zeros(40, 6), torch.zeros(40, 6)
    asked[:, :2] = torch.randn(40, 2, generator=GENERATOR)
    others[:, 2:] = torch.randn(40, 4, generator=GENERATOR)
    found = solved(vector, moments(asked), moments(others), 100.0) / 101.0
    share = (found @ asked.T).norm() / (vector @ asked.T).norm()
    assert share == pytest.approx(1.0, abs=0.1)  # the damping is of both, times the protection
    assert (found @ others.T).norm() < 1e-4 * (vector @ others.T).norm()


def test_a_request_that_reads_what_all_read_keeps_its_vector() -> None:
    vector = torch.randn(4, 6, generator=GENERATOR)
    every = moments(torch.randn(400, 6, generator=GENERATOR))
    torch.testing.assert_close(solved(vector, every, every, 30.0), vector, rtol=0.01, atol=0.01)


def test_what_is_no_matrix_does_not_move_and_nothing_else_is_told() -> None:
    every = moments(torch.randn(40, 6, generator=GENERATOR))
    vector = Delta("base", {"weight": torch.ones(4, 6), "bias": torch.ones(4)})
    assert set(confined(vector, every, every, 1.0).entries) == {"weight"}
    with pytest.raises(ExpungeError, match="biases and scales alone"):
        confined(Delta("base", {"bias": torch.ones(4)}), every, every, 1.0)


@pytest.fixture(scope="module")
def work() -> Work:
    return digits_dual_encoder()


@pytest.fixture(scope="module")
def base(work: Work) -> nn.Module:
    return work.recipe.make(work.data, Run()).model


def requests(*labels: int) -> tuple[Request, ...]:
    return tuple(Request(f"digit {c}", Rows("label", (str(c),)), labels=(c,)) for c in labels)


def deployed(work: Work, base: nn.Module) -> Deployment:
    rows = work.data[Role.TRAIN]
    return Deployment(base, work.recipe.family, rows, work.table, Sum(), recipe=work.recipe)


def deltas(work: Work, base: nn.Module, method: Method, asked: tuple[Request, ...]) -> list[Delta]:
    deployment = deployed(work, base)
    found = [deployment.unlearn(request, method, Run()).changes for request in asked]
    return [change for changes in found for change in changes if isinstance(change, Delta)]


def kept_and_forgotten(
    work: Work, base: nn.Module, made: list[Delta], asked: tuple[Request, ...], points: float
) -> tuple[float, float]:
    """Of the test split, at the largest common strength that costs at most so much of validation:
    accuracy on what nobody asked to remove, and on the requests."""
    validation = Panel.of(work.validation, work.validation_table, asked)
    test = Panel.of(work.test, work.test_table, asked)
    family, change = work.recipe.family, fold(Sum(), [(delta, 1.0) for delta in made])
    floor, strength = measure(family, base, validation, Run()).retained - points, 0.0
    while True:
        further = change.applied_to(base, strength + 0.1)
        if strength > 20 or measure(family, further, validation, Run()).retained < floor:
            break
        strength += 0.1
    found = measure(family, change.applied_to(base, strength), test, Run())
    return found.retained, float(found.requests.mean())


def test_four_digits_in_a_row_are_forgotten_at_a_cost_at_which_plain_vectors_leave_them(
    work: Work, base: nn.Module
) -> None:
    asked = requests(1, 3, 6, 8)
    plain = deltas(work, base, replace(METHOD, kept=1.0), asked)
    ours = deltas(work, base, NEGATION, asked)
    kept, left = kept_and_forgotten(work, base, plain, asked, 0.03)
    kept_here, left_here = kept_and_forgotten(work, base, ours, asked, 0.03)
    assert kept > 0.9 < kept_here
    assert left > 0.5  # measured .68, chance .1
    assert left_here < 0.2  # measured .05


def test_a_confined_method_forgets_by_itself_to_guessing_and_reads_no_retain_row(
    work: Work, base: nn.Module
) -> None:
    [three] = requests(3)
    problem = deployed(work, base).problem(three, NEGATION)
    outcome = unlearn(NEGATION, problem, Run())
    panel = Panel.of(work.test, work.test_table, [three])
    found = measure(work.recipe.family, outcome.applied_to(base), panel, Run())
    untouched = measure(work.recipe.family, base, panel, Run())
    assert float(found.requests[0]) < 0.5  # as unsure as guessing, which some rows are not
    assert float(untouched.requests[0]) > 0.9
    assert found.retained > untouched.retained - 0.03
    assert set(NEGATION.unlearns_with.roles) == {Role.FORGET}
    assert set(NEGATION.prepares_with.roles) == {Role.TRAIN}


def test_any_method_over_a_descent_is_confined_and_the_leaf_is_negation_confined(
    work: Work, base: nn.Module
) -> None:
    [three] = requests(3)
    inner = Negation(8, 1e-3, 0.0, 32, kept=1.0)
    [leaf] = deltas(work, base, NEGATION, (three,))
    [same] = deltas(work, base, Confined(inner), (three,))
    for name, entry in leaf.entries.items():
        assert torch.equal(entry, same.entries[name])  # type: ignore[arg-type]
    [other] = deltas(work, base, Confined(GradientDifference(1, 1e-3)), (three,))
    assert other.facts["around"] == "gradient-difference"


def test_where_guessing_is_not_reached_it_is_told_and_a_given_strength_is_taken(
    work: Work, base: nn.Module
) -> None:
    [three] = requests(3)
    weak = replace(NEGATION, learning_rate=1e-9)
    with pytest.warns(UserWarning, match="lifts the loss on the forget rows to"):
        deltas(work, base, weak, (three,))
    [once], [twice] = (
        deltas(work, base, replace(NEGATION, strength=s), (three,)) for s in (1.0, 2.0)
    )
    for name, entry in once.entries.items():
        torch.testing.assert_close(2 * entry, twice.entries[name])  # type: ignore[operator]


def test_bad_values_other_changes_and_another_model_are_refused(
    work: Work, base: nn.Module
) -> None:
    with pytest.raises(ExpungeError, match="above 0"):
        ConfinedNegation(protection=0.0)
    with pytest.raises(ExpungeError, match="above 0"):
        Confined(Negation(), strength=float("nan"))
    with pytest.raises(ExpungeError, match="starts from the base"):
        Confined(GradientAscent(sequential=True))
    [three] = requests(3)
    problem = deployed(work, base).problem(three, NEGATION)
    other = digits_dual_encoder(1).recipe.untrained(Run())
    artifact = NEGATION.prepare(replace(problem, model=other), Run())
    with pytest.raises(IntegrityError, match="prepared on the model"):
        NEGATION.unlearn(problem, artifact, Run())
