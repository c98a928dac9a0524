"""A group of commands of which one need not be named: ``expunge audit run.yaml``."""

from typing import Any

from typer.core import TyperGroup

DEFAULT = "model"
"""The command that is meant where none is named."""


class WithDefault(TyperGroup):
    """Puts :data:`DEFAULT` in front of arguments that do not begin with a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, the default command named where none is."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
