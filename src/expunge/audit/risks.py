"""Risks of answering requests: what could go wrong, with its figures and what to do about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from expunge.audit.planning import Asked, Plan
from expunge.changes.weights import buffers_of, parameters_of
from expunge.data.duplicates.exact import digest_of
from expunge.data.samples import ROW, Samples, batches
from expunge.deployment import Deployment
from expunge.methods.retrain import Retrain
from expunge.requests import Request

Weight = Literal["stops", "risk", "note"]


@dataclass(frozen=True)
class Limits:
    """From where on something is a risk. All are choices of ours, for the reasons given.

    Args:
        rows_left: with fewer rows of a class or subject left in the retain set, that class is
            learnt from so few that the loss of one row shows.
        held_out: with fewer held-out rows, one answer moves an accuracy by more than 0.1.
        removed: a request for something else that takes this share of a class takes the class.
        share: a request for more of the training set is about as much work as training, and leaves
            a model trained on other data than it was chosen for; one class of ten is 0.1.
        retraining: retraining is worth it where it takes at most this many times as long as the
            method, since it is exact.
    """

    rows_left: int = 10
    held_out: int = 10
    removed: float = 0.9
    share: float = 0.2
    retraining: float = 1.0


@dataclass(frozen=True)
class Risk:
    """One risk: ``stops`` means that `expunge forget` will refuse; ``note`` is true of every such
    model and no fault of the request."""

    name: str
    weight: Weight
    says: str
    advice: str
    request: str | None = None
    figures: Mapping[str, float | str] = field(default_factory=dict)


def risks_of(
    plan: Plan,
    deployment: Deployment,
    requests: Sequence[Request],
    method: str,
    *,
    pretrained: bool = False,
    limits: Limits | None = None,
) -> tuple[Risk, ...]:
    """All risks, those that stop first.

    Args:
        plan: its rows, fits and costs.
        deployment: the model and its training rows.
        requests: those of the plan, in its order.
        method: the name of the method that is to answer them.
        pretrained: whether training started from weights that others had trained.
        limits: from where on something is a risk.
    """
    limits = limits or Limits()
    found = [
        *_refusals(plan, method),
        *(risk for asked in plan.asked for risk in _of_rows(asked, limits)),
        *_copies(plan, deployment, requests),
        *_of_costs(plan, method, limits),
        *_of_model(deployment.base, pretrained),
        *_of_evidence(plan, deployment, method),
    ]
    order: tuple[Weight, ...] = ("stops", "risk", "note")
    return tuple(sorted(found, key=lambda risk: order.index(risk.weight)))


def _refusals(plan: Plan, method: str) -> Iterator[Risk]:
    for asked in plan.asked:
        if asked.refused is not None:
            yield Risk("refused", "stops", asked.refused, "Change the request.", asked.name)
    for pair in plan.overlaps:
        yield Risk(
            "overlap",
            "stops",
            f"It shares {pair.training} training and {pair.held_out} held-out rows with "
            f"{pair.first!r}; requests that are measured apart must not overlap.",
            "Take the rows out of one of the two, or make one request of both.",
            pair.second,
            {"training rows": pair.training, "held-out rows": pair.held_out},
        )
    for fit in plan.fits:
        if fit.name == method and fit.lacks:
            fitting = ", ".join(f.name for f in plan.fits if not f.lacks) or "none"
            says = f"The method {method!r} does not fit: {'; '.join(fit.lacks)}."
            yield Risk("method", "stops", says, f"Methods that fit: {fitting}.")


def _of_rows(asked: Asked, limits: Limits) -> Iterator[Risk]:
    if asked.refused is not None:
        return
    if asked.held_out < limits.held_out:
        few = f"only {asked.held_out}" if asked.held_out else "no"
        yield Risk(
            "held-out rows",
            "risk",
            f"It has {few} held-out rows: its effect is seen on the forgotten rows alone"
            if asked.held_out == 0
            else f"It has {few} held-out rows: one answer moves the accuracy by "
            f"{1 / asked.held_out:.2f}",
            "Compare with the oracle on the forgotten rows, or add such rows to `data.test`.",
            asked.name,
            {"held-out rows": asked.held_out},
        )
    if asked.share > limits.share:
        yield Risk(
            "forget set too large",
            "risk",
            f"It names {asked.forget} rows, {asked.share:.0%} of the training set (limit "
            f"{limits.share:.0%})",
            "Consider retraining, and compare the estimated times.",
            asked.name,
            {"rows": asked.forget, "share": asked.share},
        )
    if asked.forget == 1:
        yield Risk(
            "single row",
            "risk",
            "It names one row: an accuracy on it is 0 or 1 and shows nothing",
            "Judge it by confidences, together with other requests, or by the oracle.",
            asked.name,
            {"rows": 1},
        )
    yield from _of_groups(asked, limits)


WORDS = {"label": "class", "subject": "subject"}


def _of_groups(asked: Asked, limits: Limits) -> Iterator[Risk]:
    """Classes and subjects that disappear, nearly do, or of which the request names only a part."""
    same = _same_rows(asked)
    for column, word in WORDS.items():
        groups = asked.of(column)
        if column == "subject" and (same or all(group.rows == 1 for group in groups)):
            continue  # each class is one subject, or each row is
        meant = asked.column == column or (same and asked.column == "subject")
        partly = [g for g in groups if g.left and not meant]
        gone = [] if meant and column == "subject" else [g for g in groups if g.left == 0]
        if gone:
            names = _listed([g.value for g in gone])
            yield Risk(
                f"{word} disappears",
                "note" if meant else "risk",
                f"No training row of the {word} {names} is left"
                + (", and the model can still answer with it" if column == "label" else ""),
                f"The oracle has never seen the {word}: compare with it, not with zero."
                if meant
                else f"If the {word} is not what is meant to go, name fewer rows.",
                asked.name,
                {"groups": len(gone), "rows": sum(g.rows for g in gone)},
            )
        small = [
            g for g in partly if g.left < limits.rows_left or g.named / g.rows > limits.removed
        ]
        if small and column == "label":
            worst = min(small, key=lambda g: g.left)
            yield Risk(
                "class too small",
                "risk",
                f"Of the class {worst.value!r}, {worst.left} of {worst.rows} training rows are "
                f"left (limit {limits.rows_left})" + _more(len(small) - 1),
                "Watch this class apart from the retained mean, or add rows of it.",
                asked.name,
                {"classes": len(small), "fewest left": worst.left},
            )
        if partly and column == "subject":
            most = max(partly, key=lambda g: g.left)
            yield Risk(
                "subject in part",
                "risk",
                f"Of the subject {most.value!r}, {most.named} of {most.rows} rows are named and "
                f"{most.left} stay in the retain set" + _more(len(partly) - 1),
                "If the whole subject is meant, name it by the column `subject`.",
                asked.name,
                {"subjects": len(partly), "rows left": sum(g.left for g in partly)},
            )


def _same_rows(asked: Asked) -> bool:
    """Whether classes and subjects are one and the same, as for digits."""
    counts = [sorted((g.rows, g.named, g.left) for g in asked.of(c)) for c in WORDS]
    return counts[0] == counts[1]


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(map(repr, names[:most])) + _more(len(names) - most)


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _copies(plan: Plan, deployment: Deployment, requests: Sequence[Request]) -> Iterator[Risk]:
    """Rows that no request names and whose input equals a row that one names."""
    known = [r for r, a in zip(requests, plan.asked, strict=True) if a.refused is None]
    contents = content_digests(deployment.train)
    named = [request.target.rows(deployment.table).tolist() for request in known]
    past = [r.target.rows(deployment.table).tolist() for r in deployment.history.requests()]
    gone = {row for rows in (*named, *past) for row in rows}
    for request, rows in zip(known, named, strict=True):
        wanted = {contents[row] for row in rows}
        again = [i for i, digest in enumerate(contents) if i not in gone and digest in wanted]
        if again:
            yield Risk(
                "identical rows retained",
                "risk",
                f"{len(again)} rows that no request names are identical in content with its own, "
                f"such as {deployment.train.ids[again[0]]!r}: the model goes on learning them",
                "Add them to the request; `expunge find` also finds near-duplicates.",
                request.name,
                {"rows": len(again)},
            )


def content_digests(samples: Samples) -> list[bytes]:
    """A digest of each row's input: of every field but the answer."""
    fields = sorted(samples.fields - {"label", "target"})
    found = []
    for batch in batches(samples, 256):
        columns = [batch[name].cpu().contiguous() for name in fields]
        for i in range(len(batch[ROW])):
            found.append(digest_of(b"".join(c[i].numpy().tobytes() for c in columns)))
    return found


def _of_costs(plan: Plan, method: str, limits: Limits) -> Iterator[Risk]:
    totals = {costed.name: costed.total for costed in plan.costs}
    own, retrain = totals.get(method), totals.get(Retrain.name)
    if own is None or retrain is None or method == Retrain.name:
        return
    if retrain.seconds <= limits.retraining * own.seconds:
        yield Risk(
            "retraining is cheaper",
            "risk",
            f"{method} would take about {own.seconds:.2g} s, and retraining after each request "
            f"about {retrain.seconds:.2g} s",
            "Take the method `retrain`: it is exact.",
            None,
            {"method seconds": own.seconds, "retraining seconds": retrain.seconds},
        )


def _of_model(model: nn.Module, pretrained: bool) -> Iterator[Risk]:
    parameters = parameters_of(model)
    frozen = [n for n, p in parameters.items() if not p.requires_grad]
    count = sum(parameters[name].numel() for name in frozen)
    total = sum(p.numel() for p in parameters.values())
    if frozen:
        parts = list(dict.fromkeys(name.split(".")[0] for name in frozen))
        yield Risk(
            "backbone not covered",
            "risk",
            f"{count} of {total} parameters ({count / total:.0%}) take no gradient, in "
            f"{_listed(parts)}; no request changes them",
            "That is right only if they were never trained on these rows; else let them train.",
            None,
            {"parameters": count, "share": count / total},
        )
    buffers = [n for n, b in buffers_of(model).items() if b.is_floating_point()]
    if buffers:
        yield Risk(
            "buffers not covered",
            "note",
            f"{len(buffers)} buffers (such as {buffers[0]!r}) hold statistics or constants; "
            "combined deltas leave them as the training rows made them",
            "Where they are statistics of training rows, `retrain` makes them anew.",
            None,
            {"buffers": len(buffers)},
        )
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    tied = sorted(set(names) - set(parameters))
    if tied:
        yield Risk(
            "tied weights",
            "note",
            f"{_listed(tied)} share their tensor with another part: a change moves both",
            "Look at the outputs of both parts afterwards.",
            None,
            {"names": len(tied)},
        )
    if pretrained:
        yield Risk(
            "pretrained start",
            "risk",
            "Training started from the weights of `recipe.initial`; rows that these had seen are "
            "in the oracle too",
            "Find out what the initial weights were trained on; no request reaches it.",
        )


def _of_evidence(plan: Plan, deployment: Deployment, method: str) -> Iterator[Risk]:
    if deployment.recipe is None:
        yield Risk(
            "no oracle",
            "risk",
            "There is no recipe, so no model retrained without the rows: the level to reach is "
            "not known, and forgetting too much looks like success",
            "Give `recipe`, how the model was trained.",
        )
    subjects = {g.value: g.rows for a in plan.asked for g in a.of("subject")}
    if subjects and all(rows == 1 for rows in subjects.values()):
        yield Risk(
            "subjects of one row",
            "note",
            f"Every subject of the forgotten rows ({len(subjects)}) has one training row: nothing "
            "says which other rows belong to the same person or thing",
            "Map `columns.subject`, or look with `expunge find`.",
            None,
            {"subjects": len(subjects)},
        )
    labels = deployment.table["label"] if "label" in deployment.table.column_names else ()
    if len(labels) and len(set(labels)) == 1:
        yield Risk(
            "one class",
            "risk",
            f"All training rows have the label {labels[0]!r}: accuracy is 1 whatever is forgotten",
            "Measure with losses or with another task.",
        )
    if any(fit.name == method and fit.returns == "delta" for fit in plan.fits):
        yield Risk(
            "stored deltas",
            "note",
            "The base and a stored delta together restore what was forgotten",
            "Protect both, and remove them once nothing is to be withdrawn any more.",
        )
