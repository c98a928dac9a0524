"""Options that several commands of ``expunge bench`` take."""

import os
from typing import Annotated

import typer

CORES = os.cpu_count() or 1

Processes = Annotated[int, typer.Option(min=1, help="Jobs that run at once.")]
"""The default is :data:`CORES`."""

Methods = Annotated[list[str] | None, typer.Option("--method", help="Registered name; repeatable.")]

Draws = Annotated[int | None, typer.Option(min=1, help="Draws of people, from 0.")]
