"""Canonical JSON: one value has one sequence of bytes, so that it can be hashed and signed.

Rundgren, Jordan, Erdtman 2020, JSON Canonicalization Scheme (RFC 8785): names sorted by their
UTF-16 code units, no spaces, UTF-8. Numbers differ from it on purpose: whole numbers keep all
digits, and a float is written as Python's shortest decimal (``1.0``, not ``1``), so that what is
read back has the type that was written.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from expunge.errors import ExpungeError, IntegrityError


def canonical(value: object) -> bytes:
    """The canonical JSON of a value.

    Args:
        value: mappings with text names, lists, tuples, text, finite numbers, truth values, None.

    Raises:
        ExpungeError: something in it has no canonical JSON; the message says where, not what.
    """
    text = json.dumps(_ordered(value, "the value"), separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def sha256(data: bytes) -> str:
    """SHA-256 of some bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parsed(data: bytes) -> Any:
    """Read JSON strictly: two readers of the same bytes cannot understand them differently.

    Raises:
        IntegrityError: the bytes are no JSON in UTF-8, name a field twice, or hold a number that
            is not finite.
    """
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_named_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _AmbiguousError) else "it is not JSON in UTF-8"
        raise IntegrityError(
            f"The JSON cannot be read: {reason}; restore it from its source."
        ) from None


class _AmbiguousError(ValueError):
    """JSON that readers understand in different ways; the message holds no value."""


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _AmbiguousError("a field is named twice")
    return fields


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _AmbiguousError("a number is not finite")
    return number


def _ordered(value: object, where: str) -> object:
    """The value with sorted names and nothing that JSON would change silently."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ExpungeError(
                    f"Canonical JSON has text as names, and a name in {where} is no text; "
                    "turn every name into text first."
                )
            _check_unicode(name, where)
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return {name: _ordered(value[name], f"{where}.{name}") for name in names}
    if isinstance(value, list | tuple):
        return [_ordered(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpungeError(
            f"Canonical JSON has finite numbers only, and {where} is {value}; "
            "leave the figure out or give None."
        )
    if isinstance(value, str):
        _check_unicode(value, where)
    elif value is not None and not isinstance(value, bool | int | float):
        raise ExpungeError(
            f"Canonical JSON cannot hold a {type(value).__name__}, and {where} is one; "
            "give text, numbers, truth values, None, lists or mappings."
        )
    return value


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ExpungeError(
            f"Canonical JSON is UTF-8, and a text in {where} is not valid Unicode; "
            "give it in UTF-8."
        ) from None
