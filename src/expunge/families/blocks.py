"""The blocks of a module: the parts that are counted when only the last few are to be trained."""

from collections.abc import Iterator

from torch import nn

from expunge.changes.guarded import unguarded
from expunge.changes.weights import parameters_of

LISTS = (nn.ModuleList, nn.ModuleDict)

OWN = "(own)"
"""The block of the parameters that belong to the model itself and to no part of it."""


def blocks_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Canonical parameter names by block, in the order of registration, which is forward order.

    Modules are opened from the outside until one has parameters of its own (a convolution), is an
    ``nn.Sequential`` (a stage), or is an element of a container (an encoder layer); one that stands
    alone in its module divides nothing and is opened too. Parameters of the model itself are one
    block, :data:`OWN`.
    """
    prefixes = list(_opened(unguarded(model), "", whole=False))
    blocks: dict[str, list[str]] = {}
    for name in parameters_of(model):
        block = next((p for p in prefixes if name.startswith(f"{p}.")), OWN)
        blocks.setdefault(block, []).append(name)
    return {block: tuple(names) for block, names in blocks.items()}


def _opened(module: nn.Module, prefix: str, *, whole: bool) -> Iterator[str]:
    if prefix and (whole or any(True for _ in module.parameters(recurse=False))):
        yield prefix
        return
    children = {n: c for n, c in module.named_children() if any(True for _ in c.parameters())}
    elements = isinstance(module, (nn.Sequential, *LISTS))
    for name, child in children.items():
        inner = f"{prefix}.{name}" if prefix else name
        closed = isinstance(child, nn.Sequential) or (elements and not isinstance(child, LISTS))
        yield from _opened(child, inner, whole=closed and len(children) > 1)
