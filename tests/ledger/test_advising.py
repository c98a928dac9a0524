"""Facts about advice: what fits is what unlearning itself would accept, and the reason is given."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from small_model import ASCENT, Working, material

from expunge.audit.probe import Budget, Probe
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.ledger.advising import Advice, advise
from expunge.ledger.material import Material
from expunge.ledger.opening import model_row
from expunge.ledger.scope import Scope
from expunge.ledger.standing import Standing
from expunge.methods.protocol import unlearn
from expunge.requests import Request, Rows
from expunge.run_file.made import known_methods

Make = Callable[..., Working]


def advised(made: Working, column: str, *values: str, **more: Any) -> tuple[Advice, ...]:
    with made.ledger.database.reading() as connection:
        standing = Standing.of(made.ledger, model_row(connection, made.model))
    return advise(made.ledger, standing, Scope("x", column, values), **more)


def test_the_model_s_own_method_comes_first_and_every_method_is_judged(working: Make) -> None:
    made = working()
    before = made.counts()
    found = advised(made, "subject", "writer 3")
    assert made.counts() == before
    assert {advice.method for advice in found} == set(known_methods()[0])
    first = found[0]
    assert (first.method, first.advised, first.fits) == (material().method.name, True, True)
    assert "registered with" in first.reason
    assert (first.state, first.starts, first.cost) == ("edited, base kept", "base", None)
    assert first.rows == {"forget": 27, "retain": len(material().train) - 27}
    assert [advice.advised for advice in found].count(True) == 1
    fits = [advice.fits for advice in found]
    assert fits == sorted(fits, reverse=True)
    states = {advice.method: advice.state for advice in found}
    assert states["retrain"] == "retrained"
    assert states["guardrail"] == "suppressed"
    last = max(i for i, advice in enumerate(found) if advice.fits)
    assert found[last].state == "suppressed"  # weights that forget come before what stands beside


def test_what_is_missing_is_what_unlearning_says(working: Make) -> None:
    made = working()
    found = {advice.method: advice for advice in advised(made, "subject", "writer 3")}
    assert "lacks HasAnswers" in found["o3-published"].reason
    assert "training record" in found["certified-removal"].reason
    known, whole = known_methods()[0], material()
    deployment = Deployment(
        whole.model, whole.family, whole.train, whole.train_table, whole.rule(), recipe=whole.recipe
    )
    request = Request("r", Rows("subject", ("writer 3",)))
    for name in ("o3-published", "certified-removal"):
        with pytest.raises(ExpungeError):
            unlearn(known[name], deployment.problem(request, known[name]), whole.run())


def of_another_family() -> Material:
    """The digits with a method that language models alone can use."""
    return replace(material(), method=known_methods()[0]["o3-published"])


def test_where_the_own_method_does_not_fit_one_that_edits_the_weights_is_advised(
    working: Make,
) -> None:
    made = working(source=f"{__name__}:of_another_family", given=of_another_family())
    first = advised(made, "subject", "writer 3")[0]
    assert first.advised
    assert (first.fits, first.state) == (True, "edited, base kept")
    assert "Fits the family 'classifier'" in first.reason


def test_retraining_is_advised_for_a_large_part_of_the_rows(working: Make) -> None:
    made = working()
    first = advised(made, "label", "1", "2", "3")[0]
    assert (first.method, first.advised, first.state) == ("retrain", True, "retrained")
    assert "% of the training rows" in first.reason
    assert advised(made, "label", "1")[0].method == material().method.name


def test_a_probe_gives_seconds_for_the_own_method_and_retraining(working: Make) -> None:
    made = working()
    probe = Probe(seed=0, device="cpu", precision="float32", budget=Budget(seconds=0.6))
    found = {a.method: a for a in advised(made, "subject", "writer 3", probe=probe)}
    own = found[material().method.name]
    assert own.cost is not None and own.cost.low <= own.cost.seconds <= own.cost.high
    assert own.costs.startswith("about ")
    assert found["fine-tune"].cost is None


def test_there_is_no_advice_where_nothing_is_to_be_forgotten(working: Make) -> None:
    made = working()
    assert advised(made, "subject", "no such person") == ()
    made.served("subject", "writer 3", **ASCENT)
    assert advised(made, "subject", "writer 3") == ()
    found = advised(made, "subject", "writer 4")
    assert found[0].rows == {"forget": 27, "retain": len(material().train) - 54}
