"""Concept inference: which concepts a class rests on, and which of its rows carry them.

Chang, Zhu, Xu, Liu, Zhou (2024). Class Machine Unlearning for Complex Data via Concepts Inference
and Data Poisoning (part A). The importance of a concept for a class is the mean, over the rows of
the class, of what it adds to the class's score in a concept bottleneck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.learning.concepts.attribution import integrated_gradients
from expunge.learning.concepts.bank import ConceptBank
from expunge.learning.concepts.bottleneck import Bottleneck, ElasticNet
from expunge.run import Run


@dataclass(frozen=True, eq=False)
class Embedded:
    """Rows as a model sees them.

    Args:
        features: (n, d) float64, what its last linear layer is given.
        labels: int64 (n,).
        answers: int64 (n,), the class that the model gives each row.
    """

    features: Tensor
    labels: Tensor
    answers: Tensor


@dataclass(frozen=True, eq=False)
class Inferred:
    """What was found of the classes that are to be forgotten, and of all others.

    Args:
        bank: N concepts.
        bottleneck: of C classes.
        importance: (C, N) float64, the class importance of each concept, in nats of logit.
        attributions: (m, N) float64, what each concept adds to the own class's logit of each row
            that is to be forgotten.
        labels: int64 (m,) of these rows.
        agreement: share of these rows to which the bottleneck gives the model's own answer.
        accuracy: share of all rows that the bottleneck answers right, on which it was fitted.
        model_accuracy: that of the model.
    """

    bank: ConceptBank
    bottleneck: Bottleneck
    importance: Tensor
    attributions: Tensor
    labels: Tensor
    agreement: float
    accuracy: float
    model_accuracy: float

    @classmethod
    def of(
        cls,
        bank: ConceptBank,
        forget: Embedded,
        retain: Embedded,
        net: ElasticNet,
        steps: int,
        run: Run,
    ) -> Self:
        """Infer the concepts of every class.

        Args:
            bank: made with the same model.
            forget: rows to be forgotten.
            retain: the others.
            net: how the bottleneck is fitted.
            steps: of the integral.
            run: random numbers of the fit.

        Raises:
            ExpungeError: the bank is of another embedding, or all rows are of one class.
        """
        labels = torch.cat([forget.labels, retain.labels])
        answers = torch.cat([forget.answers, retain.answers])
        scores = bank.scores(torch.cat([forget.features, retain.features]))
        bottleneck = Bottleneck.fit(scores, labels, net, run)
        standardised = bottleneck.standardised(scores)
        places = bottleneck.places(labels)
        baseline = torch.zeros_like(standardised[0])  # the mean score
        added = integrated_gradients(bottleneck.logits, standardised, baseline, places, steps)
        importance = torch.stack(
            [added[places == place].mean(0) for place in range(len(bottleneck.classes))]
        )
        own, said = len(forget.labels), bottleneck.answers(scores)
        return cls(
            bank,
            bottleneck,
            importance,
            added[:own],
            forget.labels,
            float((said[:own] == forget.answers).double().mean()),
            float((said == labels).double().mean()),
            float((answers == labels).double().mean()),
        )

    def important(self, label: int, top: int) -> Tensor:
        """Positions of the concepts of largest importance for a class, the largest first."""
        return self._of(label).argsort(descending=True, stable=True)[:top]

    def exclusivity(self, label: int) -> Tensor:
        """Importance (N,) for a class less the largest for any other."""
        others = self.bottleneck.classes != label
        return self._of(label) - self.importance[others].amax(0)

    def carrying(self, top: int) -> Tensor:
        """What the ``top`` concepts of its class add together to each row to be forgotten (m,)."""
        found = torch.empty(len(self.labels), dtype=torch.float64)
        for label in torch.unique(self.labels).tolist():
            own = self.labels == label
            found[own] = self.attributions[own][:, self.important(label, top)].sum(1)
        return found

    def nearest(self, label: int, among: Sequence[int]) -> int:
        """The class, of several, whose importances point most nearly where those of a class do."""
        own = self._of(label)
        likeness = {
            other: float(F.cosine_similarity(own, self._of(other), dim=0)) for other in among
        }
        return max(sorted(likeness), key=lambda other: likeness[other])

    def report(self, top: int) -> dict[str, object]:
        """What was found, as JSON values."""
        return {
            "bank condition": self.bank.condition,
            "agreement with the model on forget rows": self.agreement,
            "bottleneck accuracy": self.accuracy,
            "model accuracy": self.model_accuracy,
            "classes": {
                str(label): self._told(label, top) for label in torch.unique(self.labels).tolist()
            },
        }

    def _told(self, label: int, top: int) -> list[dict[str, object]]:
        own, exclusive = self._of(label), self.exclusivity(label)
        return [
            {
                "concept": self.bank.names[place],
                "importance": float(own[place]),
                "exclusivity": float(exclusive[place]),
                "read right": float(self.bank.accuracies[place]),
            }
            for place in self.important(label, top).tolist()
        ]

    def _of(self, label: int) -> Tensor:
        """The importances (N,) for a class.

        Raises:
            ExpungeError: the class has no row.
        """
        found = (self.bottleneck.classes == label).nonzero().reshape(-1)
        if not len(found):
            known = ", ".join(map(str, self.bottleneck.classes.tolist()))
            raise ExpungeError(
                f"The class {label} has no row, so nothing is known of its concepts; the classes "
                f"with rows are {known}."
            )
        return self.importance[int(found[0])]
