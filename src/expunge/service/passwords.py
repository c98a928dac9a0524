"""Passwords and secrets of keys as Argon2id hashes, and the memory of secrets that were verified.

Biryukov, Dinu, Khovratovich, Josefsson 2021, Argon2 Memory-Hard Function for Password Hashing (RFC
9106), whose second recommended option is the default cost; NIST SP 800-63B on lengths and forms.
"""

import hashlib
import secrets
import threading
import time
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from expunge.errors import ExpungeError

SHORTEST, LONGEST = 12, 1024
"""Characters of a password."""
TYPED = 4 * LONGEST + 1
"""Characters of a password as it is typed that are looked at: four may become one."""
GENERATED = 18
"""Random bytes of a password that is made for somebody: 144 bits."""
REMEMBERED, MOST = 60.0, 4096
"""Seconds that a verified secret is remembered, and how many are."""


@dataclass(frozen=True)
class Argon2:
    """What one hash costs; RFC 9106, section 4, second recommended option.

    Args:
        time_cost: passes over the memory.
        memory_cost: KiB of memory.
        parallelism: lanes.
    """

    time_cost: int = 3
    memory_cost: int = 65536
    parallelism: int = 4


class Passwords:
    """Hashes and checks secrets. Safe between threads.

    Args:
        cost: of one hash.
        at_once: how many are computed at the same time; others wait, so that a crowd that signs
            in cannot take all memory.
    """

    def __init__(self, cost: Argon2 | None = None, at_once: int = 4) -> None:
        cost = cost or Argon2()
        self._hasher = PasswordHasher(
            time_cost=cost.time_cost,
            memory_cost=cost.memory_cost,
            parallelism=cost.parallelism,
            type=Type.ID,
        )
        self._turns = threading.BoundedSemaphore(at_once)
        self._nobody = self._hasher.hash(secrets.token_urlsafe(GENERATED))
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def hashed(self, secret: str) -> str:
        """The hash of a secret, with its salt and cost."""
        with self._turns:
            return self._hasher.hash(_normal(secret))

    def verify(self, stored: str | None, secret: str) -> bool:
        """Whether a secret is that of a stored hash. Where there is none the answer is no, after
        the same work, so that its time does not tell who has an account."""
        with self._turns:
            try:
                self._hasher.verify(stored or self._nobody, _normal(secret)[: LONGEST + 1])
            except (VerificationError, InvalidHashError):
                return False
        return stored is not None

    def remembers(self, stored: str, secret: str) -> bool:
        """Whether the same secret was verified against the same hash less than a minute ago.

        What is remembered is a SHA-256 of both, so that a new hash asks anew.
        """
        with self._lock:
            return self._verified.get(_mark(stored, secret), 0.0) > time.monotonic()

    def verify_remembering(self, stored: str, secret: str) -> bool:
        """As :meth:`verify`, and remembered for a minute where the answer is yes."""
        if not self.verify(stored, secret):
            return False
        mark = _mark(stored, secret)
        with self._lock:
            self._verified[mark] = time.monotonic() + REMEMBERED
            self._verified.move_to_end(mark)
            while len(self._verified) > MOST:
                self._verified.popitem(last=False)
        return True

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made at another cost than is asked for now."""
        return self._hasher.check_needs_rehash(stored)


def generated() -> str:
    """A random password."""
    return secrets.token_urlsafe(GENERATED)


def check_password(password: str, name: str) -> None:
    """Refuse a password that would be guessed first.

    Raises:
        ExpungeError: it is too short or too long, or holds the name of the account.
    """
    length = len(_normal(password))
    if not SHORTEST <= length <= LONGEST:
        raise ExpungeError(
            f"A password of {length} characters was given; give {SHORTEST} to {LONGEST}."
        )
    if name.casefold() in password.casefold():
        raise ExpungeError("The password holds the name of the account; give another one.")
    if len(set(password)) < 5:
        raise ExpungeError(
            "The password has fewer than 5 different characters; give one that nobody guesses."
        )


def _normal(secret: str) -> str:
    """One form for what keyboards write in several; lone surrogates cannot be hashed.

    Of a text that is too long as much as shows it: to normalise takes the square of its length.
    """
    return unicodedata.normalize("NFKC", secret[:TYPED]).encode(errors="replace").decode()


def _mark(stored: str, secret: str) -> bytes:
    return hashlib.sha256(f"{stored}\0{secret}".encode(errors="surrogatepass")).digest()
