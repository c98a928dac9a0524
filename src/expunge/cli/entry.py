"""The entry point: imports the commands so that an interrupt while they load ends quietly."""

import sys

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def run() -> None:
    """Run the command line."""
    try:
        from expunge.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
