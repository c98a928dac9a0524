"""The errors that a user sees: what was given, what was expected, what to do next.

The command line prints the message as one sentence and exits with status 2. Programming errors
stay ordinary Python exceptions.
"""


class ExpungeError(Exception):
    """Something the user gave cannot be used; nothing was written."""


class AccessError(ExpungeError):
    """A method touched data that its declared access does not open."""


class UnknownError(ExpungeError):
    """What was named is not there: a model, a request, a version, an account."""


class ConflictError(ExpungeError):
    """What was asked for does not go with the state that something is in."""


class ForbiddenError(ExpungeError):
    """Whoever asks may not have this done."""


class IntegrityError(ExpungeError):
    """Stored weights or changes are damaged, or belong to another base."""


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
