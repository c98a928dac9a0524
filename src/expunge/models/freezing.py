"""Freezing: which parameters of a module are trained, where the others were kept as they were."""

from collections.abc import Sequence

from torch import nn

from expunge.errors import ExpungeError


def train_only(model: nn.Module, parts: Sequence[str]) -> nn.Module:
    """Let only the parameters train whose name contains one of ``parts``; changes the module.

    A submodule whose parameters are all frozen goes into evaluation mode, and the rest into
    training mode: the running statistics of a frozen batch norm stay, and no dropout acts in what
    is frozen. A descent keeps these modes.

    Raises:
        ExpungeError: no name contains one of the parts.
    """
    names = [name for name, _ in model.named_parameters()]
    for part in parts:
        if not any(part in name for name in names):
            raise ExpungeError(
                f"`train_only` names {part!r}, which no parameter's name contains; the model has "
                f"{names[0]!r} ... {names[-1]!r}."
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()
    return model
