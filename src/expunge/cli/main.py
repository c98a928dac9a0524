"""The command ``expunge``. A user's error is one sentence and exit status 2; nothing is written."""

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command, get_group

from expunge import __version__
from expunge.errors import ExpungeError, first_line


@dataclass(frozen=True)
class Place:
    """Where a command is: a module beside this one, and what it is called there."""

    module: str
    name: str
    help: str


COMMANDS = {
    "demo": Place("demo", "demo", "Forget five groups of concepts in a row; show what stays so."),
    "init": Place("init", "init", "Write a commented run file; nothing is overwritten."),
    "forget": Place("forget", "forget", "Answer every request of a run file, and store it."),
    "evaluate": Place("evaluate", "evaluate", "Measure what a stored result scores."),
    "find": Place("find", "find", "List mentions, copies and near-duplicates."),
    "methods": Place("methods", "methods", "List methods, rules, families and learners."),
    "plan": Place("plan", "plan", "What every method would see, cost and risk."),
    "train": Place("train", "train", "Train a model from its recipe."),
    "tune": Place("tune", "tune", "Find the fields of a method on validation rows."),
    "compare": Place("compare", "compare", "Methods beside the oracle at equal retained accuracy."),
    "doctor": Place("doctor", "doctor", "What is installed, and what it can do here."),
    "data": Place("data", "app", "Real sets and weights from published packages."),
    "audit": Place("audit", "app", "What an adversary would ask of a model."),
    "ledger": Place("ledger", "app", "Requests for life: answer, revoke, seal, prove."),
    "certificate": Place("certificate", "app", "Signed proof of what was removed."),
    "serve": Place("serve", "serve", "The ledger over HTTP, with its pages."),
    "account": Place("account", "app", "Who may use the service: accounts, roles, keys."),
    "bench": Place("bench", "app", "Benchmarks whose figures stand in docs/."),
}
"""Every command, in the order of the help."""


class Commands(TyperGroup):
    """Imports a command when it is asked for: one alone takes a fraction of the time of all."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name; None where there is none."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _made(cmd_name)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list in the help, for which nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in COMMANDS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is asked for, or what was meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            raise ExpungeError(
                f"There is no command {args[0]!r}.{meant} `expunge --help` lists them."
            )
        return super().resolve_command(ctx, args)


def _made(name: str) -> Any:
    place = COMMANDS[name]
    found = getattr(import_module(f"expunge.cli.{place.module}"), place.name)
    if isinstance(found, typer.Typer):
        found.rich_markup_mode = None
        group = get_group(found)
        group.name, group.help = name, place.help
        return group
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command(name)(found)
    return get_command(alone)


app = typer.Typer(
    cls=Commands,
    help="Machine unlearning: forget, keep, prove, and stay so under later requests.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def expunge(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Machine unlearning: forget, keep, prove, and stay so under later requests."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ExpungeError as error:
        _refuse(str(error))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _refuse(f"The system said: {error.strerror or first_line(error)}{where}.")


def _refuse(message: str) -> NoReturn:
    sentence = " ".join(message.split())
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(sentence)
    sys.exit(2)


if __name__ == "__main__":
    main()
