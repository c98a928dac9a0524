"""Weighing: measuring a candidate on every request, and holding it to the gate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from expunge.audit.oracle import retrained
from expunge.ledger.canonical import canonical
from expunge.ledger.chain import Write, append, ledger_time
from expunge.ledger.measuring import (
    Figures,
    RequestFigures,
    Scores,
    Subject,
    checks,
    scores_of,
    stand_in,
)
from expunge.ledger.opening import Ledger
from expunge.ledger.past import ById, StoredHistory
from expunge.ledger.rows import Value
from expunge.ledger.standing import Standing
from expunge.ledger.steps import current_history, read_figures, read_history, tell, version_of
from expunge.requests import Request


@dataclass(frozen=True)
class Weighed:
    """What the gate says of a candidate: the address of its figures, and what it refuses."""

    figures: str
    passed: bool
    refused: tuple[str, ...]


def weigh(
    ledger: Ledger,
    standing: Standing,
    run: str,
    history: str,
    new: Sequence[str],
    withdrawn: Sequence[str] = (),
) -> Weighed:
    """Measure a candidate on this and every other request, and hold it to the gate.

    Args:
        ledger: where.
        standing: the model.
        run: its id.
        history: address of the candidate's history.
        new: ids of the requests that are answered in it for the first time.
        withdrawn: ids of those that it is made without; nothing is asked of them any more.
    """
    tell(ledger, run, "measure")
    past = read_history(ledger, history)
    earlier = read_figures(ledger, version_of(ledger, standing.row))
    figures = _measured(standing, past, earlier, new)
    kept = {r: f for r, f in figures.requests.items() if r not in withdrawn}
    figures = replace(figures, requests=kept)
    gate = checks(figures, standing.policy.gate, new)
    content = {**figures.to_json(), "checks": [check.to_json() for check in gate]}
    address = ledger.draft(run, canonical(content), "figures", "figures")
    refused = tuple(dict.fromkeys(check.name for check in gate if not check.passed))
    return Weighed(address, not refused, refused)


def _measured(
    standing: Standing, past: StoredHistory, earlier: Figures, new: Sequence[str]
) -> Figures:
    material, run = standing.material, standing.material.run()
    subjects = standing.subjects(past.requests())
    model = standing.deployment(past).model
    found = scores_of(material.family, model, material, subjects, run)
    served = _served(standing, past, earlier, [s for s in subjects if s.request in new], found)
    told: dict[str, RequestFigures] = {}
    for subject in subjects:
        request, own = subject.request, earlier.requests.get(subject.request)
        after = found.forget[request]
        if request in served:
            told[request] = served[request]
        elif own is not None and after is None:  # its rows were removed from the table
            told[request] = replace(own, stored=True)
        elif own is not None:
            held_out = found.held_out[request]
            told[request] = replace(own, after=after, held_out=held_out, rows=len(subject.train))
    for request, own in earlier.requests.items():
        if request not in told:  # sealed: what was measured last stands
            told[request] = replace(own, stored=True)
    left = standing.still_served(past)
    told = {r: replace(own, still_served=left.get(r)) for r, own in told.items()}
    return earlier.measured(found.retained, told)


def _served(
    standing: Standing,
    past: StoredHistory,
    earlier: Figures,
    fresh: Sequence[Subject],
    found: Scores,
) -> dict[str, RequestFigures]:
    """Figures of the requests that are served in this version.

    Of one that a guard was published for, the level before it and the reference are those of then.
    """
    if not fresh:
        return {}
    material, run = standing.material, standing.material.run()
    current = current_history(standing.ledger, standing.row).without_guards()
    model = standing.deployment(current).model
    known = scores_of(material.family, model, material, fresh, run)
    gone = standing.gone(past.requests())
    oracle = _oracle(standing, past, gone, fresh)
    told = {}
    for subject in fresh:
        request, own = subject.request, earlier.requests.get(subject.request)
        before = known.forget[request] if own is None else own.before
        if request in oracle:
            reference, against = oracle[request], "the oracle"
        elif own is not None and own.reference is not None:
            reference, against = own.reference, own.against
        else:
            reference, against = stand_in(material, model, subject, gone, run)
        after, held_out = found.forget[request], found.held_out[request]
        told[request] = RequestFigures(
            subject.kind,
            len(subject.train),
            before,
            after,
            after,
            reference,
            against,
            len(subject.held_out),
            held_out,
        )
    return told


def _oracle(
    standing: Standing, past: StoredHistory, gone: torch.Tensor, subjects: Sequence[Subject]
) -> dict[str, float]:
    """The score of a model retrained without the rows of all requests, on each one's rows; nothing
    where the policy asks for none, or no recipe is known."""
    material = standing.material
    if not standing.policy.gate.oracle or material.recipe is None:
        return {}
    ids = material.train_table["id"][:]
    named = tuple(str(ids[i]) for i in gone.nonzero().reshape(-1).tolist())
    everything = Request("all", ById("samples", named))
    empty = StoredHistory.of(past.rule, standing.row["base_digest"], standing.row["base"])
    model = retrained(standing.deployment(empty), [everything], material.run())
    found = scores_of(material.family, model, material, subjects, material.run())
    return {r: score for r, score in found.forget.items() if score is not None}


def attempted(
    ledger: Ledger, run: str, number: int, repair: str, history: str, weighed: Weighed | None
) -> None:
    """Put down what was tried, and what the gate said of it: nothing where it could not be tried.

    Once for each number: what is tried again after a crash takes its place.
    """
    if weighed is None:
        outcome = "could not be tried"
    else:
        outcome = "passed" if weighed.passed else "refused: " + ", ".join(weighed.refused)
    with ledger.database.writing() as connection:
        fields: dict[str, Value] = {
            "repair": repair,
            "history": history,
            "figures": None if weighed is None else weighed.figures,
            "outcome": outcome,
            "created_at": ledger_time(connection),
        }
        append(connection, "attempted", [Write("attempts", {"run": run, "number": number}, fields)])
