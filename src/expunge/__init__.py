"""expunge: machine unlearning for the life of a model."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.client import Client

__version__ = "0.1.0"

__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> Any:
    """The client, imported where it is asked for: most of what a command does needs no HTTP."""
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from expunge.client import Client

    return Client
