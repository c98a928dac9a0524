"""Methods that commands are given by name, or in a researcher's own Python file.

A file is the user's code and is run. Its folder is importable, so that it may be split into
several; nothing has to be installed.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from expunge.errors import ExpungeError, first_line
from expunge.methods.presets import AtPreset, HasPreset
from expunge.methods.protocol import Method
from expunge.methods.search import Space, space_of
from expunge.run_file.made import make, registered

PARTS = ("name", "paper", "needs", "sequential", "prepares_with", "unlearns_with")
CALLS = {"prepare": ("problem", "run"), "unlearn": ("problem", "artifact", "run")}
"""The protocol of a method (methods/protocol.py), and what its two functions are called with."""


@dataclass(frozen=True)
class MethodClass:
    """A method's class, the name it goes by, its search space, and a SHA-256 of its code.

    The code is that of its file, and of the files beside it that this one imports.
    """

    name: str
    kind: type
    space: Space
    source: str

    def made(self, parameters: Mapping[str, Any]) -> Method:
        """The method with these hyper-parameters, its defaults for the others.

        Raises:
            ExpungeError: a parameter is unknown or cannot be used.
        """
        method: Method = make(self.kind, parameters)
        return method

    def at_preset(self) -> Method | None:
        """The method at its preset; None where it has none."""
        method = self.made({})
        return AtPreset.of(method) if isinstance(method, HasPreset) else None


def method_classes(given: Sequence[str]) -> list[MethodClass]:
    """The classes of all arguments, in order: registered names, and files ending in ``.py``.

    Raises:
        ExpungeError: a name is unknown or given twice, or a file holds no usable method.
    """
    found: list[MethodClass] = []
    for argument in given:
        if argument.endswith(".py"):
            found += [_class(kind) for kind in own_methods(Path(argument))]
        else:
            found.append(_class(registered("methods", argument)))
    names = [each.name for each in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExpungeError(
            f"The method {twice[0]!r} was given twice; name each once, and give a method of your "
            "own a name that no other has."
        )
    return found


def own_methods(path: Path) -> list[type]:
    """The methods in a file, in the order in which they stand there.

    Raises:
        ExpungeError: the file fails, holds no method, or a method that lacks a part.
    """
    module = _run(path)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and _is_meant(value)
    ]
    if not classes:
        raise ExpungeError(
            f"{path} holds no method; a frozen dataclass with `name`, `paper` and `unlearn` is "
            "expected. examples/mine.py shows one."
        )
    for kind in classes:
        _check(path, kind)
    return classes


def _class(kind: type) -> MethodClass:
    source = inspect.getsourcefile(kind)
    name = str(getattr(kind, "name", kind.__name__))
    return MethodClass(
        name, kind, space_of(kind), _digest_of_code(Path(source) if source else None)
    )


def _digest_of_code(path: Path | None) -> str:
    """SHA-256 of a file alone, or together with the files beside it that it imports."""
    if path is None:
        return hashlib.sha256().hexdigest()
    found: dict[Path, bytes] = {}
    waiting = [path.resolve()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found[file] = file.read_bytes()
            waiting += _imported_beside(file, found[file], path.resolve().parent)
    content = [found[file] for file in sorted(found)]
    if len(content) == 1:
        return hashlib.sha256(content[0]).hexdigest()
    return hashlib.sha256(repr([hashlib.sha256(c).digest() for c in content]).encode()).hexdigest()


def _imported_beside(file: Path, content: bytes, folder: Path) -> list[Path]:
    """The files in the folder that a file imports, by what its text says."""
    found: list[Path] = []
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):  # beside an import that is tried and does without it
        return []
    for node in nodes:
        if isinstance(node, ast.Import):
            start, names = folder, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else folder
            module = [node.module] if node.module else []
            names = [*module, *(".".join([*module, alias.name]) for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                place = start.joinpath(*parts[:count])
                found += [place.with_suffix(".py"), place / "__init__.py"]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _run(path: Path) -> ModuleType:
    try:
        content = path.read_bytes()
        ast.parse(content)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise ExpungeError(f"The method file {path} cannot be read ({reason}).") from None
    except (SyntaxError, ValueError) as error:
        raise ExpungeError(f"{path} is not Python ({first_line(error)}); mend it.") from None
    name = f"own_method_{path.stem}_{hashlib.sha256(content).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may fail in any way
        del sys.modules[name]
        raise ExpungeError(f"{path} fails when it is run ({first_line(error)}); mend it.") from None
    return module


def _is_meant(kind: type) -> bool:
    """Whether a class is meant as a method: it unlearns, and is no base class of others."""
    return hasattr(kind, "unlearn") and not inspect.isabstract(kind)


def _check(path: Path, kind: type) -> None:
    """Say at once what a class lacks, before hours are spent on it."""
    where = f"{kind.__name__} in {path}"
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise ExpungeError(
            f"{where} is no frozen dataclass; put @dataclass(frozen=True) above the class, so that "
            "its fields are its hyper-parameters."
        )
    required = [
        f.name
        for f in dataclasses.fields(kind)
        if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if required:
        raise ExpungeError(
            f"The field {required[0]!r} of {where} has no default; give every field the value "
            "that is published for it."
        )
    lacking = [part for part in (*PARTS, *CALLS) if not hasattr(kind, part)]
    if lacking:
        raise ExpungeError(
            f"{where} lacks {', '.join(lacking)}; a method has {', '.join((*PARTS, *CALLS))} "
            "(docs/compare.md says what each is)."
        )
    for name, arguments in CALLS.items():
        _check_call(where, kind, name, arguments)
    _check_made(where, kind)


def _check_call(where: str, kind: type, name: str, arguments: tuple[str, ...]) -> None:
    function = getattr(kind, name)
    try:
        inspect.signature(function).bind(None, *arguments)  # None stands for self
    except (TypeError, ValueError):
        raise ExpungeError(
            f"{name!r} of {where} cannot be called with {', '.join(arguments)}; write "
            f"`def {name}(self, {', '.join(arguments)})`."
        ) from None


def _check_made(where: str, kind: type) -> None:
    try:
        method = kind()
        complete = isinstance(method, Method)
        hash(method)
        space_of(kind)
    except ExpungeError:
        raise
    except (Exception, SystemExit) as error:  # the user's properties may fail in any way
        raise ExpungeError(f"{where} cannot be made ({first_line(error)}); mend it.") from None
    if not complete or not isinstance(method.name, str) or not method.name:
        raise ExpungeError(
            f"The name of {where} is {getattr(method, 'name', None)!r}; a text is expected, such "
            'as `name: ClassVar[str] = "my-method"`.'
        )
