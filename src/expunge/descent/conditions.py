"""What a request says in words to a model that is told what to draw: conditions in place of others.

Methods for conditional denoisers teach the target's condition what another one draws, or draw what
stays from the model itself. Conditions are labels, or tokens of sentences; the words of a label are
the name of its class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.families.abilities import able
from expunge.families.diffusion import Diffusion, LabelDiffusion
from expunge.problem import Missing, Problem


def target_of(problem: Problem) -> str:
    """The words of what is to be forgotten: the request's text, or the name of its one label.

    Raises:
        ExpungeError: the request has neither, or names several labels.
    """
    request, family = problem.request, problem.family
    if request.text:
        return request.text
    if isinstance(family, LabelDiffusion) and len(request.labels) == 1:
        if request.labels[0] in range(len(family.classes)):
            return family.classes[request.labels[0]]
        raise ExpungeError(
            f"The request {request.name!r} names the label {request.labels[0]}; the model draws "
            f"the labels 0 to {len(family.classes) - 1}. Name one of these."
        )
    raise ExpungeError(
        f"The request {request.name!r} does not say in words what must not be drawn; a text is "
        "expected, such as the name of a class, or one label."
    )


def kept_of(problem: Problem, texts: Sequence[str] = ()) -> Tensor:
    """The conditions (n, ...) of what stays: the texts, or else all classes but the target.

    Raises:
        ExpungeError: the model is told sentences and there are no texts, a text speaks of the
            target, or nothing stays.
    """
    family, target = able(problem.family, Diffusion), target_of(problem)
    if not texts and isinstance(family, LabelDiffusion):
        texts = [name for name in family.classes if name != target]
    if not texts:
        raise ExpungeError(
            f"Nothing says what {problem.family.name!r} is to go on drawing; give `prompts`, "
            "sentences that do not speak of what is forgotten."
        )
    found = family.conditions(texts)
    if bool(family.speaking(found, target).any()):
        raise ExpungeError(
            f"Among what is to be kept, a text speaks of {target!r}, which is to be forgotten; "
            "leave it out, or both would cancel."
        )
    return found


class Instead(Protocol):
    """Says which conditions the target's own are exchanged for."""

    def of(self, problem: Problem, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """The others (n, ...) for conditions (n, ...) that speak of the target.

        Raises:
            ExpungeError: there are none, or they are the same.
        """
        ...


@dataclass(frozen=True)
class AnchorOrNext:
    """The request's anchor; without one the next label, the first after the last, as SalUn's code
    has it."""

    def of(self, problem: Problem, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """One condition for every row of a target."""
        family, anchor = able(problem.family, Diffusion), problem.request.anchor
        if anchor is not None:
            return family.exchanged(conditions, target_of(problem), anchor)
        if not isinstance(family, LabelDiffusion):
            raise ExpungeError(
                f"The request {problem.request.name!r} names no anchor, and "
                f"{problem.family.name!r} has no labels of which one would be next; give the "
                "words that take the target's place."
            )
        _several(family)
        return (conditions + 1) % len(family.classes)


@dataclass(frozen=True)
class AnyOther:
    """A random condition among those that stay, anew for every row.

    Args:
        prompts: what stays, where the model is told sentences; labels are known.
    """

    prompts: tuple[str, ...] = ()

    def of(self, problem: Problem, conditions: Tensor, generator: torch.Generator) -> Tensor:
        """Drawn evenly."""
        kept = kept_of(problem, self.prompts)
        chosen = torch.randint(len(kept), (len(conditions),), generator=generator)
        return kept[chosen].to(conditions.device)


INSTEAD: Mapping[str, Mapping[str, type]] = {
    "instead": {"anchor-or-next": AnchorOrNext, "any-other": AnyOther}
}
"""Those that a run file may name: the ``choices`` of methods with a field ``instead``."""


def unsaid(problem: Problem) -> tuple[Missing, ...]:
    """That a request does not say in words, or by one label, what must not be drawn."""
    try:
        target_of(problem)
    except ExpungeError as error:
        return (Missing("needs one condition to forget, and the request names none", str(error)),)
    return ()


def _several(family: LabelDiffusion) -> None:
    if len(family.classes) < 2:
        raise ExpungeError(
            f"The model draws {len(family.classes)} classes; two at least are expected, so that "
            "one can take another's place."
        )
