"""Inside: what the features of a model say of a forgotten kind, read by a linear probe."""

import torch
from torch import Tensor, nn

from expunge.audit.removal import Removal
from expunge.families.abilities import HasEmbeddings
from expunge.families.heads import NoEmbeddingError, embeddings_of
from expunge.signals.ask import logits_of
from expunge.signals.leace import read_concept
from expunge.signals.roc import Roc

LEAST = 4
"""Held-out rows of the forgotten kind, and of others: two to fit on and two to ask."""


def reads_of(removal: Removal, model: nn.Module) -> float | None:
    """Balanced accuracy of a linear probe for the forgotten kind, on rows it was not fitted on.

    It is fitted on held-out rows and asked about others of them, every second row each, with as
    many rows of other kinds as of the forgotten one, so that a guess is right in half.

    Returns:
        None where the answers of the model are not those of one linear layer, whose input could be
        read (of an ensemble, the last member would speak for all), or where fewer than
        :data:`LEAST` held-out rows are of one side.

    Raises:
        ExpungeError: an answer is not finite.
    """
    if min(len(removal.unseen_kind), len(removal.retained)) < LEAST:
        return None
    if not isinstance(removal.family, HasEmbeddings):
        return None
    rows, concept = _balanced(removal)
    held_out = removal.held_out.select(rows)
    try:
        features = embeddings_of(removal.family, model, held_out, removal.run)
    except NoEmbeddingError:
        return None
    own, others = (torch.nonzero(concept == kind).reshape(-1) for kind in (1, 0))
    fitted = torch.cat([own[::2], others[::2]])
    asked = torch.cat([own[1::2], others[1::2]])
    found = read_concept(features[fitted], concept[fitted], features[asked], concept[asked])
    return found.before.accuracy


COST = 0.05
"""Share of the other held-out rows that an added constant may cost."""


def brought_back(removal: Removal, model: nn.Module) -> float | None:
    """Share of the held-out rows of the forgotten labels that are answered by one of these when a
    constant is added to their logits, at the cost of :data:`COST` of the other rows.

    Whatever was added to all logits of a label, as by its bias, is undone by that.

    Returns:
        None where too few held-out rows are of one side.
    """
    if min(len(removal.unseen_kind), len(removal.retained)) < LEAST:
        return None
    logits, _ = logits_of(removal.family, model, removal.held_out, removal.run)
    own = torch.zeros(logits.shape[1], dtype=torch.bool)
    own[removal.labels["forget"]] = True
    scores = logits.double()
    ahead = scores[:, own].amax(1) - scores[:, ~own].amax(1)
    return Roc(ahead[removal.unseen_kind], ahead[removal.retained]).tpr_at(COST)


def _balanced(removal: Removal) -> tuple[Tensor, Tensor]:
    """Positions among the held-out rows, and whether each is of the forgotten kind (1) or not."""
    own = removal.unseen_kind
    order = torch.randperm(
        len(removal.retained), generator=removal.run.generator("audit: linear probe")
    )
    others = removal.retained[order[: len(own)]].sort().values
    kind = torch.cat([torch.ones(len(own)), torch.zeros(len(others))]).long()
    return torch.cat([own, others]), kind
