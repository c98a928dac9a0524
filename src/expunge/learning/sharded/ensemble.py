"""ShardEnsemble: one model a shard, whose probabilities are averaged.

Bourtoule et al. (2021), Machine Unlearning; the mean of the probabilities in the place of votes, as
in Basu Roy Chowdhury et al. (2025).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expunge.changes.guarded import unguarded
from expunge.changes.weights import digest_of, stored_tensors, with_weights
from expunge.errors import ExpungeError, IntegrityError
from expunge.learning.sharded.tree import SliceTree
from expunge.problem import Problem


class ShardEnsemble(nn.Module):
    """The served model of sharded training; its logits are logarithms of mean probabilities.

    Whatever was removed, it has the same tensors: a deactivated adapter group is zeros, and a dead
    shard is not asked.
    """

    alive: Tensor

    def __init__(self, members: Iterable[nn.Module], learned: Sequence[str]) -> None:
        """All shards alive.

        Args:
            members: one a shard; they may share weights.
            learned: the names of the tensors that each of them has of its own from training.
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self.learned = tuple(learned)
        self.register_buffer("alive", torch.ones(len(self.members), dtype=torch.int64))

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Logits (B, C) of inputs as the members take them."""
        asked = [
            member for member, alive in zip(self.members, self.alive.tolist(), strict=True) if alive
        ]
        answers = [member(*inputs, **named) for member in asked]
        logs = [getattr(each, "logits", each).log_softmax(-1) for each in answers]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    def serving(self, tree: SliceTree) -> "ShardEnsemble":
        """A copy in which each shard is what its longest intact beginning learned, and no more.

        Raises:
            ExpungeError: nothing is left to serve.
        """
        if tree.dead:
            raise ExpungeError(
                "No order of any shard is left, so there is nothing to serve; train again."
            )
        held = stored_tensors(self.members[0])
        values = {"alive": torch.tensor([bool(prefix) for prefix in tree.served]).to(torch.int64)}
        for shard, prefix in enumerate(tree.served):
            learned = tree.node(shard, prefix)
            for name in self.learned:
                values[f"members.{shard}.{name}"] = learned.get(name, torch.zeros_like(held[name]))
        served = with_weights(self, values)
        assert isinstance(served, ShardEnsemble)
        return served


def tree_of(problem: Problem, learner: str) -> tuple[ShardEnsemble, SliceTree]:
    """The served ensemble and the record that belongs to it.

    Raises:
        ExpungeError: the record is of another learner.
        IntegrityError: the record belongs to another model.
    """
    assert problem.record is not None  # opened by the access
    tree, served = SliceTree(problem.record), unguarded(problem.model)
    if tree.learner != learner:
        raise ExpungeError(
            f"The record of the learner {learner!r} is needed, and this one is of "
            f"{tree.learner!r}; take the method of that learner."
        )
    if (
        not isinstance(served, ShardEnsemble)
        or tree.dead
        or digest_of(served.serving(tree)) != digest_of(served)
    ):
        raise IntegrityError(
            "The model is not what the training record serves; give the model and the record that "
            "were made together."
        )
    return served, tree
