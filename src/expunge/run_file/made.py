"""Making what a run file names: registered dataclasses from plain values, modules from builders."""

import dataclasses
import importlib
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from torch import Tensor, nn

from expunge import registry
from expunge.errors import ExpungeError, first_line
from expunge.methods.protocol import Method

BOUNDS: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "epochs": ("a whole number of at least 1", lambda v: v >= 1),
    "batch_size": ("a whole number of at least 1", lambda v: v >= 1),
    "retain_batch_size": ("a whole number of at least 1", lambda v: v >= 1),
    "learning_rate": ("a number above 0", lambda v: v > 0),
    "weight_decay": ("a number of at least 0", lambda v: v >= 0),
    "clip": ("a number above 0", lambda v: v > 0),
    "kept": ("a share above 0 and at most 1", lambda v: 0 < v <= 1),
    "classes": ("a whole number of at least 0", lambda v: v >= 0),
}
"""What the numbers of these names must be, whichever method has them."""


def registered(group: registry.Group, name: str) -> type:
    """The class registered under a name.

    Raises:
        ExpungeError: there is none, or the package that brings it is broken.
    """
    try:
        found = registry.load(group, name)
    except ExpungeError:
        raise
    except Exception as error:  # a third party's package may fail in any way
        raise ExpungeError(
            f"The entry {name!r} of the {group} cannot be loaded ({first_line(error)}); mend or "
            "remove the package that brings it."
        ) from None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ExpungeError(
            f"The entry {name!r} of the {group} is no dataclass; mend or remove the package that "
            "brings it."
        )
    return found


def known_methods() -> tuple[dict[str, Method], list[str]]:
    """Every registered method with its defaults, and what is wrong with those that are broken."""
    known: dict[str, Method] = {}
    broken = []
    for name in registry.names("methods"):
        try:
            made = registered("methods", name)()
            if not isinstance(made, Method):
                raise ExpungeError(f"The entry {name!r} of the methods lacks a part of a method.")
            known[name] = made
        except ExpungeError as error:
            broken.append(str(error))
        except Exception as error:  # a third party's package may fail in any way
            broken.append(f"The entry {name!r} of the methods cannot be used: {first_line(error)}.")
    return known, broken


def make(kind: type, arguments: Mapping[str, Any]) -> Any:
    """An instance of a registered dataclass, its fields checked by name, type and bounds.

    Raises:
        ExpungeError: a field is unknown, or its value cannot be used.
    """
    known = {f.name: f.type for f in dataclasses.fields(kind) if f.init}
    for name in arguments:
        if name not in known:
            raise ExpungeError(
                f"{kind.__name__} has no parameter {name!r}; it has "
                f"{', '.join(sorted(known)) or 'none'}."
            )
    types = {**known, **get_type_hints(kind)}
    choices: Mapping[str, Mapping[str, type]] = getattr(kind, "choices", {})
    values = {
        name: _chosen(kind, name, choices[name], given)
        if name in choices
        else _inner(kind, name, given)
        if types[name] is Method
        else _value(kind, name, types[name], given)
        for name, given in arguments.items()
    }
    try:
        return kind(**values)
    except ExpungeError:
        raise
    except Exception as error:  # a third party's dataclass may check its fields in any way
        raise ExpungeError(
            f"{kind.__name__}: {first_line(error)}; check its parameters, which are "
            f"{', '.join(sorted(known)) or 'none'}."
        ) from None


def _chosen(kind: type, name: str, known: Mapping[str, type], given: Any) -> Any:
    """An object that is given by name, or as a mapping of its name and its own fields."""
    called, fields = _named(given)
    chosen = known.get(str(called))
    if chosen is None:
        raise ExpungeError(
            f"The parameter {name!r} of {kind.__name__} was given as {given!r}; one of "
            f"{', '.join(sorted(known))} is expected, or {{name: ..., ...}} with its fields."
        )
    return make(chosen, fields)


def _inner(kind: type, name: str, given: Any) -> Any:
    """A registered method that another one is put around, given in the same way."""
    called, fields = _named(given)
    if not isinstance(called, str) or called == getattr(kind, "name", None):
        raise ExpungeError(
            f"The parameter {name!r} of {kind.__name__} was given as {given!r}; the name of "
            "another method is expected, or {name: ..., ...} with its fields: `expunge methods` "
            "lists them."
        )
    return make(registered("methods", called), fields)


def _named(given: Any) -> tuple[Any, dict[str, Any]]:
    """A name, and the fields beside it."""
    fields = dict(given) if isinstance(given, Mapping) else {"name": given}
    return fields.pop("name", None), fields


def _value(kind: type, name: str, wanted: Any, given: Any) -> Any:
    what = f"The parameter {name!r} of {kind.__name__} was given as {given!r}"
    numeric = wanted in (int, float)
    if numeric and isinstance(given, bool):
        raise ExpungeError(f"{what}; a number is expected.")
    own = dataclasses.is_dataclass(wanted)  # which pydantic configures itself
    if own and isinstance(wanted, type) and isinstance(given, Mapping):
        return make(wanted, given)  # pydantic would take a misspelt field for nothing
    try:
        adapter = TypeAdapter(
            wanted, config=None if own else ConfigDict(arbitrary_types_allowed=True)
        )
        value = adapter.validate_python(given)
    except PydanticSchemaGenerationError:
        return given
    except ValidationError as error:
        first = error.errors()[0]
        tensors = first["type"] == "is_instance_of" and "Tensor" in first["msg"]
        reason = (
            f"{Tensor.__name__}s are expected, which a run file cannot hold; use the library"
            if tensors
            else first["msg"][:1].lower() + first["msg"][1:]
        )
        raise ExpungeError(f"{what}; {reason}.") from None
    if numeric and not math.isfinite(value):
        raise ExpungeError(f"{what}; a finite number is expected.")
    if numeric and name in BOUNDS and not BOUNDS[name][1](value):
        raise ExpungeError(f"{what}; {BOUNDS[name][0]} is expected.")
    return value


def imported(name: str, folder: Path) -> Callable[..., nn.Module]:
    """The function ``module:function``; modules in ``folder`` can be named.

    Raises:
        ExpungeError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise ExpungeError(f"The builder {name!r} was given; 'module:function' is expected.")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Callable[..., nn.Module] = getattr(importlib.import_module(module), function)
    except Exception as error:  # the user's module may fail in any way
        raise ExpungeError(
            f"The builder {name!r} cannot be imported ({first_line(error)}); put the module beside "
            "the run file or install it."
        ) from None
    if not callable(found):
        raise ExpungeError(
            f"The builder {name!r} is of the type {type(found).__name__}; a function that returns "
            "the untrained module is expected."
        )
    return found


def built(name: str, builder: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    """The module that a builder returns.

    Raises:
        ExpungeError: the builder refuses its arguments, or returns something else.
    """
    try:
        module: object = builder(**arguments)
    except Exception as error:  # the user's function may fail in any way
        raise ExpungeError(
            f"The builder {name!r} failed with the arguments {dict(arguments)!r} "
            f"({first_line(error)}); give `model.arguments` that it takes."
        ) from None
    if not isinstance(module, nn.Module):
        raise ExpungeError(
            f"The builder {name!r} returned a {type(module).__name__}; a torch.nn.Module is "
            "expected. Return the untrained module."
        )
    return module
