"""Advising: which methods can answer a request, which of them is advised, and why.

Whether a method fits is the check of ``expunge plan``, which is that of unlearning itself: the
abilities of the family, and the rows, recipe and record that the method opens. Which of those that
fit forgets best is not known before it is tried: the advice is the method that the model was
registered with, save where retraining is the better choice by the limits of
:mod:`expunge.audit.risks`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from expunge.audit.planning import Asked, Fit, Plan, plan
from expunge.audit.probe import Estimate, Probe
from expunge.audit.risks import Limits
from expunge.changes.deletion import DeletionState
from expunge.ledger.material import Material
from expunge.ledger.naming import meant
from expunge.ledger.opening import Ledger
from expunge.ledger.past import ById
from expunge.ledger.scope import Scope
from expunge.ledger.standing import Standing
from expunge.ledger.steps import current_history
from expunge.ledger.submitting import worded
from expunge.methods.presets import HasPreset
from expunge.methods.protocol import Method
from expunge.methods.retrain import Retrain
from expunge.problem import Access
from expunge.recipe import Role
from expunge.run_file.made import known_methods


@dataclass(frozen=True)
class Advice:
    """One method, for one request.

    Args:
        method: its registered name.
        paper: authors, year and title.
        advised: whether it is the one that is advised; one of those that fit is.
        fits: whether it can answer the request.
        reason: why it is advised, what it does, or what is missing.
        reads: the sets and fields that it opens, in words.
        prepares_with: the same, before requests come.
        starts: the model that it starts from.
        returns: what it gives.
        state: the deletion state that it leaves.
        rows: how many rows of each set it opens.
        cost: seconds, where they were estimated.
        costs: what is known of its cost, in words.
        own: whether it is the method that the model was registered with.
    """

    method: str
    paper: str
    advised: bool
    fits: bool
    reason: str
    reads: str
    prepares_with: str
    starts: str
    returns: str
    state: str
    rows: Mapping[str, int]
    cost: Estimate | None
    costs: str
    own: bool

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "rows": dict(self.rows)}


def advise(
    ledger: Ledger, standing: Standing, scope: Scope, probe: Probe | None = None
) -> tuple[Advice, ...]:
    """The methods for a scope: the advised one, those that fit, those that do not.

    Args:
        ledger: where the model is registered.
        standing: the model.
        scope: in the words of the user.
        probe: tries the model's own method and retraining for some seconds; None tries nothing.

    Returns:
        One for each registered method; none where the scope leaves nothing to forget, which a
        preview explains.

    Raises:
        ExpungeError: it names no value, or a column that the training table does not have.
    """
    scope = worded(ledger, standing.row, scope)
    own, material = standing.material.method, standing.material
    known, _ = known_methods()
    with standing.lock:
        history = current_history(ledger, standing.row)
        found = meant(ledger, standing, scope, history.requests())
        if found.reason is not None:
            return ()
        ids = material.train_table["id"][:]
        target = ById(scope.kind, tuple(str(ids[i]) for i in found.named))
        rows_alone = history.replaced(lambda answer: replace(answer, changes=()))
        looked = plan(
            # whether a record is that of the current weights, only these can tell
            standing.deployment(history, guards=False, record=True)
            if history.latest_record is not None
            else standing.deployment(rows_alone),
            [replace(scope.request(), target=target)],
            own,
            material.held_out_table,
            registered=known,
            others={},
            probe=probe,
        )
    methods = {**known, own.name: own}
    order = sorted(looked.fits, key=lambda fit: _rank(fit, methods[fit.name], own.name))
    first = _advised(looked, order, own.name)
    order.sort(key=lambda fit: fit.name != first)  # a stable sort: the others keep their order
    advised = [
        _advice(fit, methods[fit.name], looked, material, fit.name == first) for fit in order
    ]
    if history.latest_record is None or history.stale:
        return tuple(advised)
    return tuple(
        replace(each, reason=f"{each.reason} {OUTDATES}")
        if each.fits and _outdates(each, methods[each.method])
        else each
        for each in advised
    )


OUTDATES = (
    "It keeps no training record: methods that need the model's would refuse from then on, until "
    "it is taken back or the model retrained."
)
"""What is said of a method that would leave a record behind."""


def _outdates(advice: Advice, method: Method) -> bool:
    """Whether a method changes the weights and knows of no record."""
    access = _access(method)
    moves = advice.state != DeletionState.SUPPRESSED.value
    return moves and not access.record and method.name != Retrain.name


def _rank(fit: Fit, method: Method, own: str) -> tuple[bool, bool, bool, bool, int, str]:
    """Those that fit, the model's own, those that change the weights, those whose fields are found
    for each request; then those that open fewest sets."""
    suppresses = fit.state == DeletionState.SUPPRESSED.value
    opened = len(_access(method).roles) if not fit.lacks else 0
    preset = isinstance(method, HasPreset)
    return bool(fit.lacks), fit.name != own, suppresses, not preset, opened, fit.name


def _advised(looked: Plan, order: list[Fit], own: str) -> str | None:
    fitting = [fit.name for fit in order if not fit.lacks]
    if Retrain.name in fitting and _retraining(looked, own) is not None:
        return Retrain.name
    return fitting[0] if fitting else None


def _retraining(looked: Plan, own: str) -> str | None:
    """Why retraining is the better choice; None where it is not."""
    [asked], limits = looked.asked, Limits()
    if asked.share > limits.share:
        return (
            f"The request names {asked.share:.0%} of the training rows: above {limits.share:.0%}, "
            "an edit is about as much work as a training, and a training forgets exactly"
        )
    totals = {costed.name: costed.total for costed in looked.costs}
    edit, anew = totals.get(own), totals.get(Retrain.name)
    cheaper = edit and anew and anew.seconds <= limits.retraining * edit.seconds
    if cheaper and own != Retrain.name:
        return "It takes no longer than the model's own method, and forgets exactly"
    return None


def _advice(fit: Fit, method: Method, looked: Plan, material: Material, advised: bool) -> Advice:
    [asked] = looked.asked
    cost = next((c.total for c in looked.costs if c.name == fit.name), None)
    rows = {} if fit.lacks else _rows(method, asked, material)
    return Advice(
        fit.name,
        method.paper,
        advised,
        not fit.lacks,
        _reason(fit, method, looked, material, advised),
        fit.reads,
        fit.prepares_with,
        fit.starts,
        fit.returns,
        fit.state,
        rows,
        cost,
        _costs(cost, rows, fit),
        fit.name == material.method.name,
    )


def _reason(fit: Fit, method: Method, looked: Plan, material: Material, advised: bool) -> str:
    if fit.lacks:
        return f"Does not fit: {'; '.join(fit.lacks)}."
    own = material.method.name
    why = _retraining(looked, own) if advised and fit.name == Retrain.name else None
    if why is not None:
        return f"{why}."
    if fit.name == own:
        return f"The method that the model was registered with ({material.settings})."
    if fit.state == DeletionState.SUPPRESSED.value:
        return f"Leaves the weights as they are: {fit.returns} acts beside them, at once."
    if fit.name == Retrain.name:
        return "Trains anew without the rows: nothing of them is left, at the cost of a training."
    fields = "fields found for each request" if isinstance(method, HasPreset) else "paper's fields"
    return f"Fits the family {material.family.name!r} and what is there ({fields})."


def _access(method: Method) -> Access:
    return method.prepares_with | method.unlearns_with


def _rows(method: Method, asked: Asked, material: Material) -> dict[str, int]:
    sizes = {role: len(samples) for role, samples in material.data.items()}
    sizes |= {
        Role.FORGET: asked.forget,
        Role.RETAIN: asked.retain,
        Role.TRAIN: asked.forget + asked.retain,
    }
    return {role.value: sizes[role] for role in _access(method).roles if role in sizes}


def _costs(cost: Estimate | None, rows: Mapping[str, int], fit: Fit) -> str:
    if fit.lacks:
        return ""
    if cost is not None:
        return f"about {cost.seconds:.2g} s ({cost.low:.2g} to {cost.high:.2g})"
    opened = ", ".join(f"{count:,} {role}" for role, count in rows.items())
    return f"opens {opened} rows" if opened else "opens no rows"
