"""The same questions asked of a model of the user's own, such as a CLIP folder, from its run file.

Requests, their order and held-out rows are those of the run file; strengths are found on its
validation rows.
"""

from collections.abc import Sequence

import torch
from torch import nn

from expunge.audit.measure import Panel
from expunge.benchmarks.continual_vlm.stream import Stream
from expunge.data.samples import all_but
from expunge.errors import ExpungeError
from expunge.families.dual_encoder import DualEncoder
from expunge.run_file.reading import Loaded

VISION = ("vision", "visual")
"""What the names of an image tower's parameters contain; of a dual encoder these alone move."""


def of_run_file(loaded: Loaded, parts: Sequence[str] = ()) -> Stream:
    """The requests of a run file, asked of its model.

    Args:
        loaded: the run file; which parameters of its model may move is set here.
        parts: what the names of the parameters that may move contain; of a dual encoder the image
            tower by default, all of other models.

    Raises:
        ExpungeError: the model has no classes, there are no validation rows, a request has no
            held-out row or names nothing that the model knows, requests overlap, or a part is
            frozen or not there.
    """
    deployment = loaded.deployment
    if loaded.validation is None or loaded.validation_table is None:
        raise ExpungeError(
            "The run file names no `data.validation`, and strengths are found on its rows; give "
            "held-out rows that nothing is reported of."
        )
    towers = VISION if isinstance(deployment.family, DualEncoder) else ()
    only_moving(deployment.base, tuple(parts) or towers)
    asked = [request.target.rows(deployment.table) for request in loaded.requests]
    return Stream(
        deployment,
        tuple(loaded.requests),
        Panel.of(loaded.validation, loaded.validation_table, loaded.requests),
        Panel.of(loaded.test, loaded.test_table, loaded.requests),
        all_but(len(deployment.train), torch.cat(asked)),
        loaded.run(),
    )


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
