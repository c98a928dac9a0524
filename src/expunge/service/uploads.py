"""What is uploaded: a file of this user alone while it is read, under a name that nobody sent.

Of weights only safetensors are taken (https://github.com/huggingface/safetensors, Format): eight
bytes with the length of a header, then the header, which is a JSON object. Both are looked at
before the rest is received: an archive or a pickle is refused at its first bytes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from fastapi import Request

from expunge.errors import ExpungeError
from expunge.ledger.opening import CONTENT, scratch
from expunge.ledger.refusals import UnavailableError
from expunge.service.problems import Problem

WEIGHTS = "application/octet-stream"
HEADER = 100_000_000
"""Bytes of the longest header that the format allows."""
FIRST = 9
"""Bytes that tell whether it can be a safetensors file."""
PIECE = 2**20
"""Bytes that are written at once."""


@asynccontextmanager
async def weights(request: Request) -> AsyncIterator[Path]:
    """The safetensors file in the body of a request.

    Raises:
        Problem: 415, the body is of another type; 413, it is too large.
        ExpungeError: it is no safetensors file, or ends too early.
        UnavailableError: there is no room for it.
    """
    check_type(request, WEIGHTS)
    with scratch() as folder:
        path = folder / CONTENT
        try:
            with open(path, "wb") as file:
                await _received(request, file)
        except OSError as error:
            raise UnavailableError(
                f"The file cannot be received ({error.strerror}); make room in TMPDIR."
            ) from None
        yield path


async def _received(request: Request, file: BinaryIO) -> None:
    piece, size, header = bytearray(), 0, 0
    async for chunk in request.stream():
        piece += chunk
        size += len(chunk)
        if not header and len(piece) >= FIRST:
            header = _header(bytes(piece[:FIRST]))
        if header and len(piece) >= PIECE:
            await anyio.to_thread.run_sync(file.write, bytes(piece))
            piece.clear()
    if not header or size < FIRST - 1 + header:
        raise ExpungeError("The file ends within its header; send a safetensors file whole.")
    await anyio.to_thread.run_sync(file.write, bytes(piece))


def _header(first: bytes) -> int:
    """The length of the header that a file begins with.

    Raises:
        ExpungeError: it begins otherwise.
    """
    length = int.from_bytes(first[:8], "little")
    if not 2 <= length <= HEADER or first[8:] != b"{":
        raise ExpungeError(
            "The file does not begin as a safetensors file does; only these are taken, since "
            "others may run code where they are read."
        )
    return length


def check_type(request: Request, *taken: str) -> None:
    """Refuse a body of another type.

    Raises:
        Problem: 415.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in taken:
        raise Problem(415, f"The body is taken as {' or '.join(taken)} alone.")
