"""The same questions asked of a model of the user's own, such as a CLIP folder, from its run file.

Requests, their order and held-out rows are those of the run file; strengths are found on its
validation rows. Methods are at their presets. With a recipe the oracle stands beside. Nothing is
stored on the way.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from expunge.attacks.relearning import Relearning
from expunge.audit.case import reason_of
from expunge.audit.measure import Measured, Panel, measure
from expunge.audit.oracle import retrained
from expunge.benchmarks.continual_vlm.kinds import PRESETS
from expunge.benchmarks.continual_vlm.measuring import (
    alone,
    cells,
    conflicts,
    followed,
    matched_factor,
)
from expunge.benchmarks.continual_vlm.work import ATTACK, POINTS
from expunge.benchmarks.continual_vlm.world import KNOWN
from expunge.changes.delta import Delta
from expunge.data.samples import all_but
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits, able
from expunge.families.dual_encoder import DualEncoder
from expunge.methods.protocol import unlearn
from expunge.run_file.reading import Loaded
from expunge.signals.ask import logits_of

VISION = ("vision", "visual")
"""What the names of an image tower's parameters contain; of a dual encoder these alone move."""

LARGEST_BATCH = 256
"""Rows that relearning shows at once."""


class Own:
    """A run file with the panels of its requests.

    Args:
        loaded: the run file; which parameters of its model may move is set here.
        parts: what the names of the parameters that may move contain; of a dual encoder the image
            tower by default, all of other models.

    Raises:
        ExpungeError: the model has no classes, there are no validation rows, a request has no
            held-out row or names nothing that the model knows, requests overlap, or a part is
            frozen or not there.
    """

    def __init__(self, loaded: Loaded, parts: Sequence[str] = ()) -> None:
        self.loaded, self.run = loaded, loaded.run()
        deployment = loaded.deployment
        self.base, self.family, self.train = deployment.base, deployment.family, deployment.train
        able(self.family, HasLogits)
        if loaded.validation is None or loaded.validation_table is None:
            raise ExpungeError(
                "The run file names no `data.validation`, and strengths are found on its rows; "
                "give held-out rows that nothing is reported of."
            )
        towers = VISION if isinstance(self.family, DualEncoder) else ()
        only_moving(self.base, tuple(parts) or towers)
        self.validation = Panel.of(loaded.validation, loaded.validation_table, loaded.requests)
        self.test = Panel.of(loaded.test, loaded.test_table, loaded.requests)
        self.names = [request.name for request in loaded.requests]
        self.rows = [request.target.rows(deployment.table) for request in loaded.requests]
        self.before = self._scored(self.base, self.test)
        self._check()

    def conduct(self, kinds: Sequence[str], rules: Sequence[str]) -> dict[str, Any]:
        """Every rule on every kind of vectors, at equal retained accuracy; JSON values as those of
        :class:`~.protocol.Protocol`, and the kinds whose preset found no fields, with the reason.

        Raises:
            ExpungeError: every kind was refused.
        """
        start = time.perf_counter()
        logits, _ = logits_of(self.family, self.base, self.test.samples, self.run)
        made, refused = {}, {}
        for kind in kinds:
            try:
                made[kind] = self._vectors(kind)
            except ExpungeError as error:
                refused[kind] = reason_of(error)
        if not made:
            raise ExpungeError(f"No vector could be made. {next(iter(refused.values()))}")
        where = {"half": "own", "seed": self.run.seed, "count": len(self.names)}
        return {
            "references": [{**where, "requests": self.names, **self._references()}],
            "conflicts": [
                {**where, "kind": kind, **conflicts([delta for delta, _ in vectors])}
                for kind, vectors in made.items()
            ],
            "rows": [
                {**where, "order": 0, "requests": self.names, "kind": kind, "rule": rule}
                | self._served(rule, vectors)
                for kind, vectors in made.items()
                for rule in rules
            ],
            "curves": [],
            "refused": refused,
            "chance": 1 / logits.shape[1],
            "seconds": time.perf_counter() - start,
        }

    def _check(self) -> None:
        validation = self._scored(self.base, self.validation)
        for number, name in enumerate(self.names):
            for panel, which in ((self.validation, "validation"), (self.test, "test")):
                if not len(panel.groups[number]):
                    raise ExpungeError(
                        f"The request {name!r} names no {which} row, so what is left of it cannot "
                        "be measured; give held-out rows of it."
                    )
            share = float(validation.requests[number])
            if share < KNOWN:
                raise ExpungeError(
                    f"There is nothing to forget in {name!r}: {share:.0%} of its validation rows "
                    f"are answered, and at least {KNOWN:.0%} are expected. Leave the request out."
                )

    def _vectors(self, kind: str) -> list[tuple[Delta, float]]:
        """The vector of each request, and the seconds it took."""
        method, found = PRESETS[kind], []
        asked = torch.cat(self.rows)
        reserve = all_but(len(self.train), asked)
        problems = [
            alone(self.base, self.family, request, self.train, rows, reserve)
            for request, rows in zip(self.loaded.requests, self.rows, strict=True)
        ]
        artifact = method.prepare(problems[0].opened(method.prepares_with), self.run)
        for problem in problems:
            start = time.process_time()
            [delta] = unlearn(method, problem, self.run, artifact).changes
            assert isinstance(delta, Delta)
            found.append((delta, time.process_time() - start))
        return found

    def _served(self, name: str, vectors: Sequence[tuple[Delta, float]]) -> dict[str, Any]:
        found = followed(name, [delta for delta, _ in vectors])
        floor = self._scored(self.base, self.validation).retained - POINTS
        matched = matched_factor(
            found.changes[-1], self.base, floor, lambda m: self._scored(m, self.validation).retained
        )
        models = [change.applied_to(self.base, matched["factor"]) for change in found.changes]
        steps = [self._scored(model, self.test) for model in models]
        return {
            "matched": {
                "factor": matched["factor"],
                **cells(steps),
                "unseen": {},
                "relearned": self._relearned(models[-1]),
            },
            "reached": {"matched": matched["reached"]},
            "seconds": found.seconds + sum(each for _, each in vectors),
            "bytes": found.bytes,
        }

    def _references(self) -> Mapping[str, Any]:
        """The base, and the oracle where the recipe is known."""
        models = {"base": self.base}
        if self.loaded.deployment.recipe is not None:
            deployment, asked = self.loaded.deployment, self.loaded.requests
            models["oracle"] = retrained(deployment, asked, self.run)
        return {
            name: {
                **cells([self._scored(model, self.test)]),
                "unseen": {},
                "relearned": self._relearned(model),
            }
            for name, model in models.items()
        }

    def _relearned(self, model: nn.Module) -> list[float]:
        """Accuracy on the requests' test rows after 0, 1, 2 ... steps on their training rows."""
        shown = self.train.select(torch.cat(self.rows))
        asked = self.test.samples.select(torch.cat(self.test.groups))
        attack = Relearning(ATTACK.steps, LARGEST_BATCH, ATTACK.optimiser)
        return list(attack.curve(model, self.family, shown, asked, self.run))

    def _scored(self, model: nn.Module, panel: Panel) -> Measured:
        return measure(self.family, model, panel, self.run)


def only_moving(model: nn.Module, parts: Sequence[str]) -> None:
    """Freeze every parameter whose name contains none of ``parts``; nothing where there is none.

    Raises:
        ExpungeError: a part is in no name, or everything that it names is frozen already.
    """
    named = dict(model.named_parameters())
    asked = {part: [name for name in named if part in name] for part in parts}
    for part, names in asked.items():
        if not names:
            raise ExpungeError(
                f"{part!r} was asked to move, and no parameter's name contains it; the model has "
                f"{min(named)!r} ... {max(named)!r}."
            )
        if not any(named[name].requires_grad for name in names):
            raise ExpungeError(
                f"{part!r} was asked to move, and its {len(names)} parameters, such as "
                f"{names[0]!r}, are frozen; name a part that was trained (`recipe.train_only`)."
            )
    moving = {name for names in asked.values() for name in names}
    for name, parameter in named.items():
        if parts and name not in moving:
            parameter.requires_grad_(False)
