"""What a method tells the user beside its change: a warning, never silence."""

import warnings

from expunge.run import Run


def warn(run: Run, sentence: str) -> None:
    """Print one sentence on the run's console, or raise it as a Python warning without one."""
    if run.console is None:
        warnings.warn(sentence, stacklevel=3)
    else:
        run.console.print(f"Warning: {sentence}", soft_wrap=True)
