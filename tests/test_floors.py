"""Imports go down only: the floors of the architecture, read from the source of every module.

A room is a folder or a root module of the package. It imports lower floors and itself. Two floors
hold several rooms that also import one another, downwards in the order written here. Three rooms
stand apart: ``deployment`` joins methods and rules below ``audit``; ``registry`` finds classes by
entry points, imports nothing but the errors, and serves floor 7, run files, the ledger and stored
changes; the package itself (``__init__``) may import every room and is imported for names of its
own, such as ``__version__``, by floor 7 and the ledger.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import expunge

PACKAGE = Path(expunge.__file__).parent

GROUND, TOP = -1, 7
FLOORS: dict[int, tuple[str, ...]] = {
    GROUND: ("errors", "storage", "processes", "data", "models", "run"),
    0: ("requests", "changes", "families", "recipe", "problem"),
    1: ("signals", "descent"),
    2: ("learning",),
    3: ("methods", "aggregation"),
    4: ("attacks", "defences", "deployment"),
    5: ("audit", "run_file"),
    6: ("ledger",),
    TOP: ("benchmarks", "cli", "service", "client"),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
ORDERED = {GROUND, 0}
"""Floors whose rooms may import those written before them."""
SIDEWAYS = {("cli", "benchmarks"), ("cli", "service")}
"""The other imports inside a floor: the command line starts benchmarks and the service."""
ROOT, REGISTRY = "expunge", "registry"
FINDERS = {ROOT: {"ledger"}, REGISTRY: {"changes", "run_file", "ledger"}}
"""Rooms below the top that know the version, which certificates state, or find by name."""

RESTRICTED_READER = "expunge.data.data_frames"
"""The one module that may import ``pickle``: to derive a reader that finds allowed names only."""
UNSAFE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib"}
DATABASE = {"sqlalchemy", "alembic", "dbos", "psycopg"}
VAGUE = {"utils", "util", "helpers", "common", "misc"}


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, room and syntax tree."""

    name: str
    room: str
    is_package: bool
    tree: ast.Module

    def imported(self) -> Iterator[str]:
        """Dotted names of everything imported anywhere in the file, type checking included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = self._absolute(node)
                yield from (f"{origin}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Call) and node.args:
                called, first = ast.unparse(node.func), node.args[0]
                if called.endswith("import_module") and isinstance(first, ast.Constant):
                    yield str(first.value)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        here = self.name.split(".")
        parents = here[: len(here) - node.level + self.is_package]
        return ".".join([*parents, *([node.module] if node.module else [])])


def modules(package: Path) -> list[Module]:
    """Every module of a package folder."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        parts = parts[:-1] if is_package else parts
        name = ".".join([ROOT, *parts])
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.append(Module(name, parts[0] if parts else ROOT, is_package, tree))
    return found


def room_of(imported: str, rooms: set[str]) -> str:
    """The room that a dotted name of the package belongs to."""
    parts = imported.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in rooms else ROOT


def may_import(importer: str, imported: str) -> bool:
    """Whether a room may import another."""
    if importer in (imported, ROOT):
        return True
    if importer == REGISTRY:
        return imported == "errors"
    above = FLOOR_OF[importer]
    if imported in (ROOT, REGISTRY):
        return above == TOP or importer in FINDERS[imported]
    below = FLOOR_OF[imported]
    if above != below:
        return above > below
    order = FLOORS[above]
    downwards = above in ORDERED and order.index(importer) > order.index(imported)
    return downwards or (importer, imported) in SIDEWAYS


def unsafe_loads(tree: ast.Module) -> Iterator[str]:
    """Calls that would unpickle what they read."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
        if called == "torch.load" and given.get("weights_only") != "True":
            yield f"calls {called} without weights_only=True"
        if given.get("allow_pickle", "False") != "False":
            yield f"calls {called} with allow_pickle"


def derives_a_restricted_reader(tree: ast.Module) -> bool:
    """Whether ``pickle`` is used for nothing but readers whose own ``find_class`` decides alone.

    Every mention of the module is the base of a class that defines ``find_class``, and no class
    asks its base (``super``) for a name.
    """
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    readers = [c for c in classes if "pickle.Unpickler" in map(ast.unparse, c.bases)]
    mentions = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "pickle"]
    renamed = [n for n in ast.walk(tree) if isinstance(n, ast.alias) and n.asname is not None]
    return (
        len(mentions) == len(readers)
        and not any(alias.name == "pickle" for alias in renamed)
        and all(
            any(isinstance(n, ast.FunctionDef) and n.name == "find_class" for n in reader.body)
            for reader in readers
        )
        and not any(isinstance(n, ast.Name) and n.id == "super" for n in ast.walk(tree))
    )


def violations(package: Path) -> list[str]:
    """Every breach of the floors and of the rules on single imports, in words."""
    found = []
    every = modules(package)
    known = {*FLOOR_OF, REGISTRY, ROOT}
    rooms = {module.room for module in every} | set(FLOOR_OF)
    for module in every:
        vague = VAGUE & set(module.name.split("."))
        found += [f"{module.name} is named {word!r}; say what it holds" for word in sorted(vague)]
        if module.room not in known:
            found.append(f"{module.name} is in the room {module.room!r}, which has no floor")
            continue
        for imported in sorted(set(module.imported())):
            top = imported.split(".")[0]
            room = room_of(imported, rooms)
            if top == ROOT and room in known and not may_import(module.room, room):
                found.append(f"{module.name} imports {imported}: {module.room} is not above {room}")
            restricted = (module.name, imported) == (RESTRICTED_READER, "pickle")
            if top in UNSAFE and not (restricted and derives_a_restricted_reader(module.tree)):
                found.append(f"{module.name} imports {imported}, which runs what it reads")
            if imported.startswith("torch.load"):
                found.append(f"{module.name} imports {imported}; call torch.load in full")
            if top in DATABASE and module.room != "ledger":
                found.append(f"{module.name} imports {imported}; only the ledger knows a database")
        found += [f"{module.name} {fault}" for fault in unsafe_loads(module.tree)]
    return found


def imports_at_start(module: Module, names: set[str]) -> set[str]:
    """Modules of the package that are executed when this one is imported."""
    top_level = Module(
        module.name,
        module.room,
        module.is_package,
        ast.Module([n for n in module.tree.body if isinstance(n, ast.Import | ast.ImportFrom)], []),
    )
    found = set()
    for imported in top_level.imported():
        parts = imported.split(".")
        longest = next(
            (n for i in range(len(parts), 1, -1) if (n := ".".join(parts[:i])) in names), None
        )
        if longest is not None:
            found.add(longest)
    return found - {module.name}


def cycle(package: Path) -> list[str]:
    """The modules of one import cycle, or nothing."""
    every = modules(package)
    names = {module.name for module in every} - {ROOT}
    graph = {m.name: imports_at_start(m, names) for m in every if m.name != ROOT}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_go_down_only() -> None:
    assert violations(PACKAGE) == []


def test_no_module_imports_itself_through_others() -> None:
    assert cycle(PACKAGE) == []


def test_the_floors_name_every_room_once() -> None:
    assert len(FLOOR_OF) == sum(len(rooms) for rooms in FLOORS.values())
    assert {module.room for module in modules(PACKAGE)} >= {"errors", "changes", "descent"}


READER = (
    "import pickle\n"
    "class Reader(pickle.Unpickler):\n"
    "    def find_class(self, module, name):\n"
    "        raise KeyError"
)
PLANTED = {
    "a lower floor imports a higher one": ("descent/loop.py", "import expunge.methods.npo"),
    "another way to write it": ("descent/loop.py", "from expunge import methods"),
    "relative": ("descent/loop.py", "from ..methods.npo import NPO"),
    "relative, in a package's own file": ("descent/__init__.py", "from .. import methods"),
    "inside a function": (
        "changes/delta.py",
        "def late():\n    from expunge.problem import Problem\n    return Problem",
    ),
    "while type checking": (
        "families/classifier.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import expunge.recipe",
    ),
    "by name": (
        "signals/ask.py",
        "import importlib\nimportlib.import_module('expunge.learning.supervised')",
    ),
    "its own floor outside itself": ("methods/cata.py", "import expunge.aggregation.cata"),
    "upwards inside an ordered floor": ("requests.py", "from expunge.changes.delta import Delta"),
    "upwards on the ground": ("errors.py", "import expunge.storage"),
    "benchmarks start commands": ("benchmarks/speed.py", "import expunge.cli.main"),
    "the registry below the top": ("audit/report.py", "from expunge.registry import load"),
    "the registry imports a room": ("registry.py", "import expunge.methods"),
    "the package itself from below": ("run.py", "from expunge import __version__"),
    "a room without a floor": ("plumbing/pipe.py", "import json"),
    "a database outside the ledger": ("audit/store.py", "from sqlalchemy.orm import Session"),
    "pickle": ("storage.py", "import pickle"),
    "from pickle": ("ledger/store.py", "from pickle import loads"),
    "a reader that allows names, in another file": ("data/tables.py", READER),
    "pickle in the one file, for anything else": (
        "data/data_frames.py",
        f"{READER}\npickle.loads(b'')",
    ),
    "the plain reader in the one file": ("data/data_frames.py", "import pickle\npickle.Unpickler"),
    "a reader that decides nothing": (
        "data/data_frames.py",
        "import pickle\nclass Reader(pickle.Unpickler):\n    pass",
    ),
    "a reader that asks its base": (
        "data/data_frames.py",
        READER.replace("raise KeyError", "return super().find_class(module, name)"),
    ),
    "pickle under another name": ("data/data_frames.py", "import pickle as tables"),
    "from pickle in the one file": ("data/data_frames.py", "from pickle import Unpickler"),
    "a load that unpickles": ("models/net.py", "import torch\ntorch.load('x')"),
    "a load told to unpickle": (
        "models/net.py",
        "import torch\ntorch.load('x', weights_only=False)",
    ),
    "a load by another name": ("models/net.py", "from torch import load"),
    "an array that unpickles": (
        "data/digits.py",
        "import numpy\nnumpy.load('x', allow_pickle=True)",
    ),
    "a vague name": ("audit/utils.py", "import json"),
    "a vague folder": ("audit/common/text.py", "import json"),
}

ALLOWED = {
    "a reader that allows names, in the one file": ("data/data_frames.py", READER),
    "downwards": ("methods/npo.py", "from expunge.descent.loop import Descent"),
    "inside a room": ("methods/salun.py", "from expunge.methods.protocol import Method"),
    "downwards inside an ordered floor": ("problem.py", "from expunge.recipe import Recipe"),
    "commands start benchmarks": ("cli/bench.py", "import expunge.benchmarks.speed"),
    "commands find by name": ("cli/methods.py", "from expunge.registry import names"),
    "commands know the version": ("cli/main.py", "from expunge import __version__"),
    "the ledger knows a database": ("ledger/store.py", "import sqlalchemy"),
    "a load of tensors only": (
        "models/net.py",
        "import torch\ntorch.load('x', weights_only=True)",
    ),
}


def planted(folder: Path, where: str, source: str) -> Path:
    """A package of one module."""
    path = folder / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return folder


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_found(name: str, tmp_path: Path) -> None:
    where, source = PLANTED[name]
    (found,) = violations(planted(tmp_path, where, source))
    assert found.startswith("expunge." + where.split("/")[0].removesuffix(".py"))


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_floors_allow_is_no_violation(name: str, tmp_path: Path) -> None:
    assert violations(planted(tmp_path, *ALLOWED[name])) == []


def test_a_planted_cycle_is_found(tmp_path: Path) -> None:
    planted(tmp_path, "methods/one.py", "from expunge.methods.two import b")
    planted(tmp_path, "methods/two.py", "from expunge.methods import three")
    planted(tmp_path, "methods/three.py", "import expunge.methods.one")
    names = {f"expunge.methods.{number}" for number in ("one", "two", "three")}
    assert set(cycle(tmp_path)) == names
    (tmp_path / "methods/three.py").write_text("def late():\n    import expunge.methods.one")
    assert cycle(tmp_path) == []
