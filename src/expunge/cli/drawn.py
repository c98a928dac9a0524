"""What the models of a run file draw, as its judge sees it: figures, table, and what is kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from expunge.audit.kept import Kept
from expunge.cli.output import console, numbers, table
from expunge.run_file.reading import Loaded
from expunge.signals.drawings import AS_TOLD, RECOGNISABLE, SHOWN, Drawings, Real

ORIGINAL, FINAL, ORACLE = "original", "after all requests", "oracle (retrained)"


@dataclass(frozen=True)
class Drawn:
    """Drawings of several models by name, and what the judge says of real pictures.

    Args:
        real: of the held-out rows.
        models: drawings by the name of the model.
        requests: the classes of each request by its name; none of one that names rows.
        each: pictures of every class.
    """

    real: Real
    models: Mapping[str, Drawings]
    requests: Mapping[str, tuple[int, ...]]
    each: int

    @property
    def count(self) -> int:
        """Drawings of one model."""
        return len(next(iter(self.models.values())).told)

    @property
    def gone(self) -> frozenset[int]:
        """The classes of all requests."""
        return frozenset(label for labels in self.requests.values() for label in labels)

    def row(self, name: str) -> list[float]:
        """Of one model: each request, other classes as told, and how recognisable these are."""
        found = self.models[name]
        shown = [found.shows(labels) for labels in self.requests.values()]
        return [*shown, found.as_told(self.gone), found.recognisable(self.real, self.gone)]

    def kept(self, before: str, after: str) -> tuple[Kept, ...]:
        """What is left of the fidelity of other drawings: as told, where the model is told, and
        recognisable."""
        first, last = self.row(before)[-2:], self.row(after)[-2:]
        pairs = zip(("share drawn as told", "recognisable share"), first, last, strict=True)
        return tuple(
            Kept(name, "higher", old, new) for name, old, new in pairs if not math.isnan(old)
        )

    def figures(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "judge": {"right": self.real.right, "of": self.real.count},
            "drawn of each class": self.each,
            **{name: self.figures_of(name) for name in self.models},
        }

    def figures_of(self, name: str) -> dict[str, object]:
        """Of one model, as JSON values."""
        *shown, told, sure = numbers(self.row(name))
        requests = dict(zip(self.requests, shown, strict=True))
        return {"requests": requests, AS_TOLD.name: told, RECOGNISABLE.name: sure}

    def show(self, names: Mapping[str, str]) -> None:
        """Print the table, and how good the judge is; ``names`` are shorter ones of some models."""
        columns = ["model", *self.requests, AS_TOLD.name, RECOGNISABLE.name]
        rows = [[names.get(name, name), *self.row(name)] for name in self.models]
        console.print(table(f"{SHOWN.name[0].upper()}{SHOWN.name[1:]}", columns, rows))
        console.print(
            f"{self.each} drawings of every class; the judge is right about {self.real.right:.3f} "
            f"of {self.real.count} real held-out pictures, and as sure as of 95 % of these of what "
            "counts as recognisable.",
            soft_wrap=True,
        )


def judged_real(loaded: Loaded) -> Real | None:
    """What the judge of a run file says of the held-out rows; None where it names no judge.

    Raises:
        ExpungeError: it is right about too few of them.
    """
    return None if loaded.judge is None else loaded.judge.on_real(loaded.test, loaded.run())


def drawn(loaded: Loaded, real: Real | None, models: Mapping[str, nn.Module]) -> Drawn | None:
    """What the judge of a run file sees in drawings of some models; None where it names no judge.

    Args:
        loaded: the run file.
        real: what :func:`judged_real` found, which is asked before any work is done.
        models: by name.
    """
    if loaded.judge is None or real is None:
        return None
    judge, run = loaded.judge, loaded.run()
    family = loaded.deployment.family
    return Drawn(
        real,
        {name: judge.drawings(family, model, run) for name, model in models.items()},
        {request.name: request.labels for request in loaded.requests},
        judge.each,
    )
