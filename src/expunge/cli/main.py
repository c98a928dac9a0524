"""The command ``expunge``. A user's error is one sentence and exit status 2; nothing is written."""

import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from expunge import __version__
from expunge.cli import (
    audit,
    bench,
    certificate,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    find,
    forget,
    init,
    ledger,
    methods,
    plan,
    train,
    tune,
)
from expunge.errors import ExpungeError, first_line

app = typer.Typer(
    help="Machine unlearning: forget, keep, prove, and stay so under later requests.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("forget")(forget.forget)
app.command("evaluate")(evaluate.evaluate)
app.command("find")(find.find)
app.command("methods")(methods.methods)
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("compare")(compare.compare)
app.command("doctor")(doctor.doctor)
app.add_typer(data.app, name="data", help="Real sets and weights from published packages.")
app.add_typer(audit.app, name="audit", help="What an adversary would ask of a model.")
app.add_typer(
    ledger.app, name="ledger", help="Requests for the life of a model: answer, revoke, seal, prove."
)
app.add_typer(certificate.app, name="certificate", help="Signed proof of what was removed.")
app.add_typer(bench.app, name="bench", help="Benchmarks whose figures stand in docs/.")


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
