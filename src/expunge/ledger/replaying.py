"""Replaying: measuring a certified version again, and holding the figures to the certificate."""

from dataclasses import dataclass, replace

from expunge.changes.weights import digest_of
from expunge.ledger.certificate import Figure, Removal, verified
from expunge.ledger.measuring import checks, scores_of
from expunge.ledger.opening import Ledger
from expunge.ledger.serving import version_row
from expunge.ledger.standing import Standing
from expunge.ledger.steps import read_figures, read_history

TOLERANCE = 1e-9
"""By how much a figure may differ: the same machine and seed give the same digits."""


@dataclass(frozen=True)
class Replayed:
    """Whether the rebuilt weights are the certified ones; and the figures of a certificate, each
    with what was measured now, None where its rows are gone."""

    model: str
    version: int
    weights: bool
    figures: tuple[tuple[Figure, float | None], ...]

    @property
    def measured(self) -> int:
        """How many figures could be measured."""
        return sum(again is not None for _, again in self.figures)

    @property
    def holds(self) -> bool:
        """Whether the weights are the certified ones, and every figure that could be measured."""
        return self.weights and all(
            again is None or figure.value is None or abs(figure.value - again) <= TOLERANCE
            for figure, again in self.figures
        )


def replay(ledger: Ledger, envelope: bytes) -> Replayed:
    """Measure the version of a certificate again.

    What is held to a level at the time of a request (the stand-in, the score when it was served)
    is held to the stored level; the version's own scores are measured.

    Raises:
        IntegrityError: the certificate does not hold.
        ExpungeError: the version is not in this ledger, or was destroyed with a sealed history.
    """
    removal = Removal.from_json(verified(envelope, ledger.keys.public)["predicate"])
    row, version = version_row(ledger, removal.model, removal.version)
    past = read_history(ledger, version["history"])
    standing = Standing.of(ledger, row)
    material, run = standing.material, standing.material.run()
    weights = digest_of(standing.deployment(past, guards=False).model) == removal.after
    subjects = standing.subjects(past.requests())
    model = standing.deployment(past).model
    found = scores_of(material.family, model, material, subjects, run)
    stored = read_figures(ledger, version)
    left = standing.still_served(past)
    again = {
        request: replace(own.with_score(found.forget.get(request)), still_served=left.get(request))
        for request, own in stored.requests.items()
    }
    certified = {figure.name for figure in removal.figures}
    answered = [r for r in stored.requests if _named("forgotten", r) in certified]
    measured = checks(stored.measured(found.retained, again), standing.policy.gate, answered)
    by_name = {_named(check.name, check.request): check.value for check in measured}
    if not removal.figures or removal.cause == "registration":
        return Replayed(
            removal.model,
            removal.version,
            weights,
            tuple((figure, found.retained) for figure in removal.figures),
        )
    figures = tuple((figure, by_name.get(figure.name)) for figure in removal.figures)
    return Replayed(removal.model, removal.version, weights, figures)


def _named(name: str, request: str | None) -> str:
    return name if request is None else f"{name} ({request})"
