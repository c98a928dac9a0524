"""Certificates of removal: signed statements that are checked without a ledger.

A certificate is an in-toto Statement v1 (in-toto Attestation Framework) in a DSSE envelope (Dead
Simple Signing Envelope v1), signed with Ed25519 (RFC 8032).
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

from cryptography.exceptions import InvalidSignature
from pydantic import ConfigDict, TypeAdapter, ValidationError

from expunge.changes.proof import Certified
from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger.canonical import canonical, parsed
from expunge.ledger.keys import Keys, key_id, public_key

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
PREDICATE = "urn:expunge:removal:v1"
"""What a predicate of this version is; another version has another number at the end."""
SUBJECT_DIGEST = "sha256"

Cause = Literal["registration", "request", "revocation", "seal", "guard"]


@dataclass(frozen=True)
class Figure:
    """One measured figure of a certificate.

    Attributes:
        name: for example ``forget accuracy``.
        value: None where it could not be measured.
        threshold: what the policy asks for; None where it asks for nothing.
        passed: None where there is no threshold.
        against: what it is compared with, for example ``oracle``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: str
    value: float | None
    threshold: float | None
    passed: bool | None
    against: str | None


@dataclass(frozen=True)
class Proof:
    """What the method of a version proves, beside which nothing is proven.

    Attributes:
        scope: the part of the model that is covered, and what is not, in words.
        epsilon: how far the weights may be told from some that never saw the rows, all removals
            together; None where they are equal as the scope says.
        delta: probability with which that may fail.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    scope: str
    epsilon: float | None
    delta: float | None

    def told(self) -> str:
        """In one line."""
        return Certified(self.scope, self.epsilon, self.delta).told()


Before = Literal["kept", "destroyed"]
"""What became of the training records from before a version."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What a certificate states of one version of a model: the predicate of version 1.

    Attributes:
        model: name of the model.
        version: number of this version; ``parent`` is the one that it was made from.
        cause: why there is a new version.
        before, after: digests of the weights (:func:`expunge.storage.digest`); nothing comes
            before a registration.
        request_hashes: the requests that this version answers, as keyed hashes.
        kinds: how many requests of each kind, for example ``{"subject": 2}``.
        method: None where nothing was unlearned anew (a revocation, a seal).
        parameters: of the method.
        settings: where they are from: a preset, the paper, the run file.
        aggregation: the rule that folded the history; None where it is a single change.
        strengths: request hash to the strength it was folded with.
        code_version: of this package.
        seed: of the run; None where it drew nothing.
        deletion_state: how far the deletion goes (``expunge.changes.deletion``).
        figures: what was measured.
        not_covered: sentences on what the removal does not reach.
        issued_at: ISO 8601, UTC.
        anchor: number and hash of the ledger's last event before this version: who keeps the
            certificate notices a chain that was cut off or rewritten.
        guards: digests of what acts at inference: guards around the weights, and, keyed,
            redactions of what they are served.
        certified: what the method proves of these weights; None where it proves nothing.
        records_before: whether training records from before this version still exist in the ledger;
            None where there was none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    model: str
    version: int
    parent: int | None
    cause: Cause
    before: str | None
    after: str
    request_hashes: tuple[str, ...]
    kinds: Mapping[str, int]
    method: str | None
    parameters: Mapping[str, Any]
    settings: str | None
    aggregation: str | None
    strengths: Mapping[str, float]
    code_version: str
    seed: int | None
    deletion_state: str | None
    figures: tuple[Figure, ...]
    not_covered: tuple[str, ...]
    issued_at: str
    anchor: tuple[int, str]
    guards: tuple[str, ...] = ()
    certified: Proof | None = None
    records_before: Before | None = None

    def to_json(self) -> dict[str, Any]:
        """The predicate as JSON values.

        Raises:
            ExpungeError: a field has no canonical JSON, for example a figure that is NaN.
        """
        fields: dict[str, Any] = parsed(canonical(asdict(self)))
        return fields

    @classmethod
    def from_json(cls, predicate: Mapping[str, Any]) -> Self:
        """The predicate of a certificate, every field checked.

        Raises:
            IntegrityError: a field is missing, unknown or of another type; the message names it.
        """
        try:
            return TypeAdapter(cls).validate_json(canonical(predicate))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise IntegrityError(
                f"The certificate states no removal of version 1: {where}: {first['msg']}; ask for "
                "the certificate as it was issued."
            ) from None


def statement(
    subject_name: str, weights_digest: str, predicate: Mapping[str, Any]
) -> dict[str, Any]:
    """An in-toto statement about some weights.

    Args:
        subject_name: for example ``faces@3``.
        weights_digest: SHA-256 of the weights, 64 hexadecimal digits.
        predicate: what is stated of them (:meth:`Removal.to_json`).
    """
    return {
        "_type": STATEMENT,
        "subject": [{"name": subject_name, "digest": {SUBJECT_DIGEST: weights_digest}}],
        "predicateType": PREDICATE,
        "predicate": dict(predicate),
    }


def sign(statement: Mapping[str, Any], keys: Keys) -> bytes:
    """A DSSE envelope with one signature, canonical JSON.

    Raises:
        ExpungeError: the keys can only check, or the statement has no canonical JSON.
    """
    if keys.signing is None:
        raise ExpungeError(
            "A certificate is signed with the private signing key, and only the public one was "
            "given; give the folder that holds signing.pem, or set EXPUNGE_SIGNING_KEY_FILE."
        )
    payload = canonical(statement)
    signature = keys.signing.sign(_authenticated(PAYLOAD, payload))
    return canonical(
        {
            "payloadType": PAYLOAD,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": keys.key_id, "sig": base64.b64encode(signature).decode()}],
        }
    )


def verified(envelope: bytes, public: bytes) -> dict[str, Any]:
    """The statement in an envelope, after everything in it was checked.

    Args:
        envelope: the bytes of a certificate.
        public: the public key in PEM (``signing.pub``).

    Raises:
        IntegrityError: the message names what does not hold.
    """
    outer = _fields(_json(envelope, "it"), "its envelope", "payloadType", "payload", "signatures")
    if outer["payloadType"] != PAYLOAD:
        raise _refused(f"its payload type is not {PAYLOAD}")
    if not isinstance(outer["signatures"], list) or len(outer["signatures"]) != 1:
        raise _refused("it does not have exactly one signature")
    signature = _fields(outer["signatures"][0], "its signature", "keyid", "sig")
    expected = key_id(public)
    if signature["keyid"] != expected:
        raise _refused(f"another key than {expected} signed it")
    payload = _decoded(outer["payload"], "its payload")
    try:
        public_key(public).verify(
            _decoded(signature["sig"], "its signature"), _authenticated(PAYLOAD, payload)
        )
    except InvalidSignature:
        raise _refused(f"its signature does not hold for the key {expected}") from None
    return _checked(_json(payload, "its payload"))


def _checked(stated: object) -> dict[str, Any]:
    """A signed statement, where it is one that this version understands."""
    fields = _fields(stated, "its statement", "_type", "subject", "predicateType", "predicate")
    if fields["_type"] != STATEMENT:
        raise _refused(f"its statement is not of the type {STATEMENT}")
    if fields["predicateType"] != PREDICATE:
        raise _refused(
            f"its predicate is not of the type {PREDICATE}, so another version of expunge made it"
        )
    if not isinstance(fields["subject"], list) or len(fields["subject"]) != 1:
        raise _refused("it does not have exactly one subject")
    subject = _fields(fields["subject"][0], "its subject", "name", "digest")
    digest = _fields(subject["digest"], "the digest of its subject", SUBJECT_DIGEST)
    if not isinstance(subject["name"], str) or not isinstance(digest[SUBJECT_DIGEST], str):
        raise _refused("the name or the digest of its subject is no text")
    predicate = fields["predicate"]
    if not isinstance(predicate, dict):
        raise _refused("its predicate is no JSON object")
    named = f"{predicate.get('model')}@{predicate.get('version')}", predicate.get("after")
    if named != (subject["name"], digest[SUBJECT_DIGEST]):
        raise _refused("its subject is another version than its predicate is about")
    return fields


def _authenticated(kind: str, payload: bytes) -> bytes:
    """What DSSE signs: its pre-authentication encoding (PAE)."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def _fields(value: object, what: str, *names: str) -> dict[str, Any]:
    """A JSON object with exactly these fields: one more, unsigned, could mislead a reader."""
    if not isinstance(value, dict):
        raise _refused(f"{what} is no JSON object")
    for name in names:
        if name not in value:
            raise _refused(f"{what} has no {name}")
    if len(value) > len(names):
        raise _refused(f"{what} has fields other than {', '.join(names)}")
    return value


def _json(data: bytes, what: str) -> object:
    try:
        return parsed(data)
    except IntegrityError:
        raise _refused(f"{what} is not JSON, or it names a field twice") from None


def _decoded(text: object, what: str) -> bytes:
    """The bytes of base64 text; another text for the same bytes is refused."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        data = b""
    if not data or base64.b64encode(data).decode() != text:
        raise _refused(f"{what} is no base64 text")
    return data


def _refused(reason: str) -> IntegrityError:
    return IntegrityError(
        f"The certificate does not hold: {reason}; ask for it as it was issued, and for the public "
        "key of its ledger."
    )
