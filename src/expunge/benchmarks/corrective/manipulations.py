"""Manipulations of training rows, and how far a model answers as if there had been none.

Goel, Prabhu, Torr, Kumaraguru, Sanyal (2024). Corrective Machine Unlearning. Two attacks and a
control. Labels that accuracies are taken against are the clean ones throughout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from expunge.benchmarks.classification.rows import share_right
from expunge.data.samples import Samples, TensorSamples
from expunge.errors import ExpungeError
from expunge.signals.corrective import (
    attack_success,
    clean_accuracy_of_classes,
    corrected_accuracy_of_classes,
    corrected_accuracy_under_trigger,
)
from expunge.signals.predictions import Predictions

Asked = Callable[[Samples], Predictions]
"""What one model answers on samples."""


@dataclass(frozen=True, eq=False)
class Manipulated:
    """Training rows of which some are manipulated.

    Args:
        samples: all rows as a model trains on them.
        clean: the same rows before.
        rows: positions (n,) of the manipulated ones (S_m), in the order in which they are
            identified.
    """

    samples: TensorSamples
    clean: TensorSamples
    rows: Tensor

    @property
    def effective(self) -> int:
        """How many of them have another label than before."""
        now, before = (s.columns["label"][self.rows] for s in (self.samples, self.clean))
        return int((now != before).sum())

    def identified(self, share: float) -> Tensor:
        """Positions of the first share of the manipulated rows (S_f), at least one.

        Raises:
            ExpungeError: the share is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ExpungeError(
                f"A share of {share} was given as identified; a number above 0 and at most 1 is "
                "expected."
            )
        return self.rows[: max(1, round(share * len(self.rows)))]

    def with_clean_labels(self, rows: Tensor) -> TensorSamples:
        """Rows with the inputs that were trained on and the labels they had before."""
        found = self.samples.select(rows)
        return found.with_column("label", self.clean.columns["label"][rows])


@dataclass(frozen=True)
class Reading:
    """How a model answers held-out rows, as shares.

    Args:
        corrected: clean answers on the manipulated domain.
        retained: clean answers on everything else.
        attacked: answers on the domain that the manipulation asked for; None where it asks for no
            answer in particular.
    """

    corrected: float
    retained: float
    attacked: float | None = None


class Manipulation(Protocol):
    """A way to spoil a share of the training rows, known by its name."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def domain(self) -> str:
        """The inputs that it is about, in words."""
        ...

    def manipulated(self, rows: TensorSamples, generator: torch.Generator) -> Manipulated:
        """The rows with a share of them manipulated; which ones, the generator says.

        Raises:
            ExpungeError: there are too few rows.
        """
        ...

    def read(self, asked: Asked, held_out: TensorSamples, train: TensorSamples) -> Reading:
        """What a model makes of held-out rows, which are clean.

        Args:
            asked: the model.
            held_out: the rows.
            train: the training rows, of which the manipulation may have taken something.
        """
        ...

    def retained(self, asked: Asked, held_out: TensorSamples) -> float:
        """Of the same, what is retained alone."""
        ...

    def corrected(self, found: Predictions) -> float:
        """Share of clean answers on manipulated training rows, with their clean labels."""
        ...


@dataclass(frozen=True)
class PatchTrigger:
    """A bright patch at the bottom right and the label of one class, on rows of any class.

    Rows of that class keep their label, so the effective size is smaller; no accuracy under the
    trigger counts them.

    Args:
        share: manipulated rows, as a share of the training rows.
        side: of the patch, in pixels.
        target: the label that all of them get.
    """

    share: float = 0.08
    side: int = 3
    target: int = 0
    name: ClassVar[str] = "patch trigger"
    domain: ClassVar[str] = "held-out pictures with the patch, without those of the target class"

    def manipulated(self, rows: TensorSamples, generator: torch.Generator) -> Manipulated:
        """Draw rows of any class; the patch has the largest value of the training pictures."""
        chosen = torch.randperm(len(rows), generator=generator)[: _count(self.share, rows)]
        images, labels = rows.columns["image"].clone(), rows.columns["label"].clone()
        images[chosen] = self._stamped(images[chosen], _brightest(rows))
        labels[chosen] = self.target
        spoiled = rows.with_column("image", images).with_column("label", labels)
        return Manipulated(spoiled, rows, chosen)

    def _stamped(self, images: Tensor, brightest: float) -> Tensor:
        """Pictures (n, ..., height, width) with the patch."""
        stamped = images.clone()
        stamped[..., -self.side :, -self.side :] = brightest
        return stamped

    def triggered(self, rows: TensorSamples, train: TensorSamples) -> TensorSamples:
        """Rows with the patch of the training pictures and their own labels."""
        images = self._stamped(rows.columns["image"], _brightest(train))
        return rows.with_column("image", images)

    def read(self, asked: Asked, held_out: TensorSamples, train: TensorSamples) -> Reading:
        """Pictures with the patch are corrected, those without it retained."""
        under = asked(self.triggered(held_out, train))
        return Reading(
            float(corrected_accuracy_under_trigger(under, self.target)[0]),
            self.retained(asked, held_out),
            float(attack_success(under, self.target)[0]),
        )

    def retained(self, asked: Asked, held_out: TensorSamples) -> float:
        """Accuracy on pictures without the patch."""
        return share_right(asked(held_out))

    def corrected(self, found: Predictions) -> float:
        """Rows of the target class are left out."""
        return float(corrected_accuracy_under_trigger(found, self.target)[0])


@dataclass(frozen=True)
class InterclassConfusion:
    """Equally many rows of two classes have swapped labels.

    Args:
        share: manipulated rows of both, as a share of all training rows.
        classes: the two.
    """

    share: float = 0.08
    classes: tuple[int, int] = (3, 5)
    name: ClassVar[str] = "interclass confusion"
    domain: ClassVar[str] = "held-out rows of the two classes"

    def manipulated(self, rows: TensorSamples, generator: torch.Generator) -> Manipulated:
        """Draw rows of either class and give them the other label; identified in mixed order."""
        labels = rows.columns["label"].clone()
        half, drawn = _count(self.share, rows) // 2, []
        for mine in self.classes:
            places = (labels == mine).nonzero().reshape(-1)
            if not 0 < half < len(places):
                raise ExpungeError(
                    f"{half} rows of class {mine} are to be confused and {len(places)} are there; "
                    "at least one, and fewer than all of them, are expected."
                )
            drawn.append(places[torch.randperm(len(places), generator=generator)[:half]])
        for places, other in zip(drawn, self.classes[::-1], strict=True):
            labels[places] = other
        chosen = torch.cat(drawn)
        mixed = chosen[torch.randperm(len(chosen), generator=generator)]
        return Manipulated(rows.with_column("label", labels), rows, mixed)

    def read(self, asked: Asked, held_out: TensorSamples, train: TensorSamples) -> Reading:
        """The two classes are corrected, the others retained; attacked: answered as the other."""
        found = asked(held_out)
        return Reading(
            float(corrected_accuracy_of_classes(found, self.classes)[0]),
            float(clean_accuracy_of_classes(found, self.classes)[0]),
            self._exchanged(found),
        )

    def retained(self, asked: Asked, held_out: TensorSamples) -> float:
        """Accuracy on the other classes."""
        return float(clean_accuracy_of_classes(asked(held_out), self.classes)[0])

    def _exchanged(self, found: Predictions) -> float:
        """Share of rows of the two classes that are answered with the other one of them."""
        one, other = self.classes
        answers, labels = found.answers()[0], found.labels
        wrong = ((labels == one) & (answers == other)) | ((labels == other) & (answers == one))
        among = (labels == one) | (labels == other)
        return float(wrong[among].double().mean())

    def corrected(self, found: Predictions) -> float:
        """All manipulated rows are of the two classes."""
        return share_right(found)


@dataclass(frozen=True)
class RandomSwap:
    """The control: labels permuted among rows of any class, about a tenth of which keep theirs.

    It has no domain of its own, so both accuracies are those on all held-out rows.

    Args:
        share: rows that take part, as a share of the training rows.
    """

    share: float = 0.08
    name: ClassVar[str] = "random label swap"
    domain: ClassVar[str] = "all held-out rows"

    def manipulated(self, rows: TensorSamples, generator: torch.Generator) -> Manipulated:
        """Draw rows and permute their labels."""
        chosen = torch.randperm(len(rows), generator=generator)[: _count(self.share, rows)]
        labels = rows.columns["label"].clone()
        order = torch.randperm(len(chosen), generator=generator)
        labels[chosen] = labels[chosen][order]
        return Manipulated(rows.with_column("label", labels), rows, chosen)

    def read(self, asked: Asked, held_out: TensorSamples, train: TensorSamples) -> Reading:
        """Plain accuracy."""
        right = self.retained(asked, held_out)
        return Reading(right, right)

    def retained(self, asked: Asked, held_out: TensorSamples) -> float:
        """Plain accuracy."""
        return share_right(asked(held_out))

    def corrected(self, found: Predictions) -> float:
        """Plain accuracy."""
        return share_right(found)


def _brightest(rows: TensorSamples) -> float:
    return float(rows.columns["image"].max())


def _count(share: float, rows: TensorSamples) -> int:
    count = round(share * len(rows))
    if not 0 < count < len(rows):
        raise ExpungeError(
            f"A share of {share} of {len(rows)} rows is to be manipulated, which are {count}; at "
            "least one row, and fewer than all, are expected."
        )
    return count
