"""``expunge doctor``: what is installed, and what would break."""

import importlib
import importlib.util
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch
import typer

from expunge import __version__, registry
from expunge.cli.output import JsonPath, console, table, write_json

PACKAGES = ("torch", "numpy", "safetensors", "datasets", "numba", "transformers", "torchvision")


def doctor(json: JsonPath = None) -> None:
    """Check the installation; exit status 2 if something in it is broken."""
    found = {name: installed(name) for name in PACKAGES}
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
                ["methods", str(len(registry.names("methods")))],
                ["aggregations", str(len(registry.names("aggregations")))],
                ["families", str(len(registry.names("families")))],
            ],
        )
    )
    broken = complaints(found)
    write_json(json, {"packages": found, "complaints": broken})
    for complaint in broken:
        console.print(complaint, soft_wrap=True)
    if broken:
        raise typer.Exit(2)
    console.print("Everything that was checked works.")


def installed(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def complaints(found: Mapping[str, str | None]) -> list[str]:
    """One sentence for each thing that is broken."""
    said = []
    if found.get("torchvision") is not None or importlib.util.find_spec("torchvision"):
        try:
            importlib.import_module("torchvision")
        except Exception as error:
            said.append(
                f"torchvision {found.get('torchvision')} is installed and does not import "
                f"({str(error).splitlines()[0]}); it also breaks transformers, peft and "
                "diffusers. expunge does not need it: remove it with `pip uninstall "
                "torchvision`, or install the build that fits this torch."
            )
    if not registry.names("methods"):
        said.append(
            "No method is registered, so the package's entry points are missing; install it with "
            "`pip install -e .` instead of only putting it on the path."
        )
    return said
