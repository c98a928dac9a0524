"""The ledger: removal requests that arrive for years, survive every crash, and can be revoked,
sealed and proven. The only room that knows a database.

A library's way in: ``Ledger.init`` or ``Ledger.open``, then :func:`register`, :func:`submit`, a
:class:`Worker`, :func:`status`, :func:`history`, :func:`verify`, :func:`revoke`, :func:`seal`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.ledger.asking import cancel, retry, revoke, seal
    from expunge.ledger.exporting import export
    from expunge.ledger.looking import diff, history, show, status
    from expunge.ledger.material import Material, Source
    from expunge.ledger.opening import Ledger
    from expunge.ledger.policy import Policy
    from expunge.ledger.registering import register
    from expunge.ledger.scope import Scope
    from expunge.ledger.serving import Latest
    from expunge.ledger.submitting import Submission, submit
    from expunge.ledger.verifying import verify
    from expunge.ledger.worker import Worker

_WHERE = {
    "Latest": "serving",
    "Ledger": "opening",
    "Material": "material",
    "Policy": "policy",
    "Scope": "scope",
    "Source": "material",
    "Submission": "submitting",
    "Worker": "worker",
    "cancel": "asking",
    "diff": "looking",
    "export": "exporting",
    "history": "looking",
    "register": "registering",
    "retry": "asking",
    "revoke": "asking",
    "seal": "asking",
    "show": "looking",
    "status": "looking",
    "submit": "submitting",
    "verify": "verifying",
}
"""A certificate is checked without torch, so nothing is imported before it is asked for."""

__all__ = [
    "Latest",
    "Ledger",
    "Material",
    "Policy",
    "Scope",
    "Source",
    "Submission",
    "Worker",
    "cancel",
    "diff",
    "export",
    "history",
    "register",
    "retry",
    "revoke",
    "seal",
    "show",
    "status",
    "submit",
    "verify",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
