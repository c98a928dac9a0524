"""The edit-off attack: who holds a deployed model takes off what only stands around its weights.

A guard, an adapter and a hook leave the weights that know the forgotten rows in place, and these
can be run alone, so a removal is judged on what is left without such additions. Their names are no
verdict: an addition may watch and change nothing. What counts is how the model answers without it.

- Wrappers: modules around the whole model, from the outside in. A child ``guarded`` always shows
  one; a child of another name in :data:`INNER` where the class does more than call and reshape.
- Low-rank branches: two smaller matrices beside a layer, or a child :data:`BASE_LAYER`.
- Parametrisations, forward hooks, masks of ``torch.nn.utils.prune``, and ``forward`` methods that
  were put on one module. Other additions of ``torch.nn.utils`` (weight norm, spectral norm) belong
  to the architecture.

A change that was added to the weights cannot be told from weights, and is not found.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from itertools import permutations

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

GUARDED = "guarded"
"""The child of a module that is sure to be a wrapper."""

INNER = ("model", "base_model", "base", "inner", "wrapped")
"""Other names under which wrappers hold what they are around."""

BASE_LAYER = "base_layer"
"""The child of an adapter that is the layer it stands beside."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks")
"""Where a module keeps what can change its answers; backward hooks cannot."""

RESHAPING = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "contiguous", "float", "to")
"""What a class may do to inputs and answers without being a wrapper."""


def switchable(model: nn.Module) -> tuple[str, ...]:
    """What can be switched off in a model.

    Args:
        model: as it is deployed; it stays as it is.

    Returns:
        One name for each, with its place, such as ``wrapper Refusal`` or ``forward hook on
        layers.3``; none for plain weights.
    """
    return tuple(_Stripping(model).found)


def switched_off(model: nn.Module) -> nn.Module:
    """A copy of the model without everything that :func:`switchable` names.

    Args:
        model: as it is deployed; it stays as it is.
    """
    return _Stripping(model).model


class _Stripping:
    """A copy of a model from which the additions were taken, and their names."""

    def __init__(self, model: nn.Module) -> None:
        self.found: list[str] = []
        self.done: dict[nn.Module, nn.Module] = {}
        bare, path = self._copied(model), ""
        while name := _inside(bare):
            self.found.append(f"wrapper {type(bare).__name__}{_at(path)}")
            bare, path = bare.get_submodule(name), f"{path}.{name}".lstrip(".")
        self.model = self._bare(bare, path)

    def _copied(self, model: nn.Module) -> nn.Module:
        """A copy without hooks: those may hold what cannot be copied, or the model itself."""
        instead: dict[int, object] = {}
        for path, part in model.named_modules():
            for kind in HOOKS:
                hooks: Mapping[int, object] = getattr(part, kind)
                kept = OrderedDict((key, hook) for key, hook in hooks.items() if _of_torch(hook))
                masks = [key for key, hook in kept.items() if isinstance(hook, BasePruningMethod)]
                if len(kept) < len(hooks):
                    self.found.append(f"{kind.strip('_')[:-1].replace('_', ' ')}{_at(path)}")
                for key in masks:  # the mask itself is named and taken off with the others
                    del kept[key]
                instead[id(hooks)] = kept
            for value in vars(part).values():
                if isinstance(value, Tensor) and not value.is_leaf:  # computed, by a mask or a norm
                    instead[id(value)] = value.detach().clone()
        return copy.deepcopy(model, instead)

    def _bare(self, part: nn.Module, path: str) -> nn.Module:
        """The part, changed in place, or the layer in it that a branch stands beside."""
        if part not in self.done:
            self.done[part] = part
            name = _beside(part)
            if name:
                kind = "adapter" if name == BASE_LAYER else "low-rank branch"
                self.found.append(f"{kind}{_at(path)}")
                self.done[part] = self._bare(part.get_submodule(name), f"{path}.{name}".lstrip("."))
            else:
                self._without_own(part, path)
                for child, inner in part._modules.items():
                    if inner is not None:
                        part._modules[child] = self._bare(inner, f"{path}.{child}".lstrip("."))
        return self.done[part]

    def _without_own(self, part: nn.Module, path: str) -> None:
        """Take off what was put on this one module."""
        if "forward" in vars(part):
            self.found.append(f"forward method{_at(path)}")
            del part.forward
        if isinstance(part, nn.Linear) and _low_rank(part.weight, _besides(part)):
            self.found.append(f"low-rank branch{_at(path)}")
            part.__class__ = nn.Linear
            part._parameters = {n: part._parameters[n] for n in ("weight", "bias")}
            part._modules = {}
        for name in _masked(part):
            self.found.append(f"mask{_at(f'{path}.{name}'.lstrip('.'))}")
            weight = part._parameters.pop(f"{name}_orig")
            del part._buffers[f"{name}_mask"]
            vars(part).pop(name, None)
            part.register_parameter(name, weight)
        names = _parametrised(part)
        if names:  # the class holds the computed tensors, and a copy shares it with the original
            shared = type(part)
            part.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
        for name in names:
            self.found.append(f"parametrisation{_at(f'{path}.{name}'.lstrip('.'))}")
            parametrize.remove_parametrizations(part, name, leave_parametrized=False)


def _at(path: str) -> str:
    return f" on {path}" if path else ""


def _of_torch(addition: object) -> bool:
    return str(getattr(addition, "__module__", "")).startswith("torch.nn.utils")


def _masked(part: nn.Module) -> list[str]:
    """Parameters that ``torch.nn.utils.prune`` masks at every call."""
    names = [name.removesuffix("_orig") for name in part._parameters if name.endswith("_orig")]
    return [name for name in names if f"{name}_mask" in part._buffers]


def _parametrised(part: nn.Module) -> list[str]:
    """Tensors that are computed from one stored tensor by something that is not torch's own."""
    if not parametrize.is_parametrized(part):
        return []
    lists = dict(part.get_submodule("parametrizations").named_children())
    return [
        name
        for name, rules in lists.items()
        if hasattr(rules, "original") and not any(_of_torch(r) for r in rules.children())
    ]


def _besides(layer: nn.Linear) -> list[nn.Parameter]:
    """Parameters of a layer other than its weight and bias."""
    return [p for p in layer.parameters() if p is not layer.weight and p is not layer.bias]


def _beside(part: nn.Module) -> str:
    """The child of an adapter that is the layer it stands beside; empty for other modules.

    A pair without biases is asked for, since a bottleneck beside a shortcut usually has them.
    """
    children = dict(part.named_children())
    if BASE_LAYER in children:
        return BASE_LAYER
    if isinstance(part, nn.Sequential):  # one after another, not beside
        return ""
    for name, child in children.items():
        weight, own = getattr(child, "weight", None), {id(p) for p in child.parameters()}
        rest = [p for p in part.parameters() if id(p) not in own]
        if isinstance(weight, nn.Parameter) and weight.dim() == 2 and _low_rank(weight, rest):
            graph = _graph(part)
            if graph is None or not _leads_on(graph, name, part):
                return name
    return ""


def _low_rank(weight: Tensor, rest: list[nn.Parameter]) -> bool:
    """Whether the rest is a pair (r, in), (out, r), either of them transposed or not, r small."""
    outputs, inputs = weight.shape
    return len(rest) == 2 and any(
        sorted(down.shape) == sorted((rank, inputs)) and sorted(up.shape) == sorted((rank, outputs))
        for down, up in permutations(rest)
        for rank in down.shape
        if rank < min(outputs, inputs)
    )


def _inside(part: nn.Module) -> str:
    """The name of the child that a wrapper is around; empty for other modules."""
    children = dict(part.named_children())
    if GUARDED in children:
        return GUARDED
    named = [name for name in INNER if name in children]
    if not named or part._parameters:  # weights of its own: a head on a trunk
        return ""
    graph, name = _graph(part), named[0]
    if len([child for child in children.values() if _weighs(child)]) > 1:
        return "" if graph is None or _leads_on(graph, name, part) else name
    return "" if graph is not None and _only_calls(graph) else name


def _weighs(child: nn.Module) -> bool:
    return any(True for _ in child.parameters())


class _Outline(fx.Tracer):
    """Traces one forward method, no child's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Every child is one node."""
        return True


def _graph(part: nn.Module) -> fx.Graph | None:
    """What the forward method does; None where that depends on the values."""
    try:
        return _Outline().trace(copy.copy(part))  # what it stores while traced is thrown away
    except Exception:  # it runs code of others, on stand-ins for tensors
        return None


def _only_calls(graph: fx.Graph) -> bool:
    """Whether it calls children and reshapes, and does nothing else."""
    acts = [node for node in graph.nodes if node.op in ("call_function", "call_method")]
    names = [getattr(node.target, "__name__", node.target) for node in acts]
    return all(name in RESHAPING for name in names)


def _leads_on(graph: fx.Graph, inner: str, part: nn.Module) -> bool:
    """Whether another child with weights works on what ``inner`` answers, as a head does."""
    after: set[fx.Node] = set()
    for node in graph.nodes:
        if after.intersection(node.all_input_nodes) or node.target == inner:
            after.add(node)
    others = [node.target for node in after if node.op == "call_module" and node.target != inner]
    return any(_weighs(part.get_submodule(str(name))) for name in others)
