"""Certificates: what is signed comes back, and nothing else is accepted."""

import base64
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger import certificate
from expunge.ledger.canonical import canonical
from expunge.ledger.certificate import Figure, Removal, sign, statement, verified
from expunge.ledger.keys import Keys

REMOVAL = Removal(
    model="faces",
    version=3,
    parent=2,
    cause="request",
    before="b" * 64,
    after="a" * 64,
    request_hashes=("1" * 64, "2" * 64),
    kinds={"subject": 2},
    method="ssd",
    parameters={"alpha": 10.0, "layers": [1, 2], "preset": None},
    settings="paper",
    aggregation="cata",
    strengths={"1" * 64: 1.0, "2" * 64: 0.5},
    code_version="0.1.0",
    seed=7,
    deletion_state="approximate",
    figures=(
        Figure("forget accuracy", 0.1, 0.2, True, "oracle"),
        Figure("relearning", None, None, None, None),
    ),
    not_covered=("The backbone was not changed.", "Die Basis wird noch gehalten: für Widerrufe."),
    issued_at="2025-01-02T03:04:05Z",
    anchor=(7, "c" * 64),
)


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys.generate()


@pytest.fixture(scope="module")
def stated() -> dict[str, Any]:
    return statement("faces@3", REMOVAL.after, REMOVAL.to_json())


@pytest.fixture(scope="module")
def envelope(keys: Keys, stated: dict[str, Any]) -> bytes:
    return sign(stated, keys)


def signed(stated: object, keys: Keys) -> bytes:
    """An envelope around anything, rightly signed."""
    assert keys.signing is not None
    payload = stated if isinstance(stated, bytes) else canonical(stated)
    encoding = certificate._authenticated(certificate.PAYLOAD, payload)
    signature = {"keyid": keys.key_id, "sig": text(keys.signing.sign(encoding))}
    outer = {"payloadType": certificate.PAYLOAD, "payload": text(payload)}
    return canonical({**outer, "signatures": [signature]})


def text(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode()


def test_what_was_signed_comes_back(keys: Keys, stated: dict[str, Any], envelope: bytes) -> None:
    found = verified(envelope, keys.public)
    assert found == stated
    assert found["subject"] == [{"name": "faces@3", "digest": {"sha256": "a" * 64}}]
    assert Removal.from_json(found["predicate"]) == REMOVAL


def test_the_signature_is_over_the_published_encoding_of_dsse() -> None:
    """The example of the DSSE protocol, version 1."""
    found = certificate._authenticated("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_envelope_has_the_fields_of_dsse_and_in_toto(keys: Keys, envelope: bytes) -> None:
    outer = json.loads(envelope)
    assert outer["payloadType"] == "application/vnd.in-toto+json"
    assert [set(signature) for signature in outer["signatures"]] == [{"keyid", "sig"}]
    inner = json.loads(base64.b64decode(outer["payload"]))
    assert inner["_type"] == "https://in-toto.io/Statement/v1"
    assert inner["predicateType"] == "urn:expunge:removal:v1"


def test_signing_twice_gives_the_same_bytes(
    keys: Keys, stated: dict[str, Any], envelope: bytes
) -> None:
    assert sign(dict(reversed(stated.items())), keys) == envelope


def test_every_flipped_bit_of_payload_and_signature_is_noticed(keys: Keys, envelope: bytes) -> None:
    outer = json.loads(envelope)
    payload = bytearray(base64.b64decode(outer["payload"]))
    signature = bytearray(base64.b64decode(outer["signatures"][0]["sig"]))
    for data in (payload, signature):
        for place in range(len(data)):
            data[place] ^= 1 << place % 8
            changed = {
                **outer,
                "payload": text(payload),
                "signatures": [{"keyid": keys.key_id, "sig": text(signature)}],
            }
            with pytest.raises(IntegrityError, match="its signature does not hold"):
                verified(canonical(changed), keys.public)
            data[place] ^= 1 << place % 8


def test_every_changed_byte_of_the_file_is_noticed(keys: Keys, envelope: bytes) -> None:
    """Also the last character of base64, whose spare bits decode to the same bytes."""
    for place in range(len(envelope)):
        for flip in (1, 2):
            changed = bytearray(envelope)
            changed[place] ^= flip
            with pytest.raises(IntegrityError, match="The certificate does not hold"):
                verified(bytes(changed), keys.public)


def test_another_key_is_named(keys: Keys, envelope: bytes) -> None:
    other = Keys.generate()
    with pytest.raises(IntegrityError, match=f"another key than {other.key_id} signed it"):
        verified(envelope, other.public)
    outer = json.loads(envelope)
    outer["signatures"][0]["keyid"] = other.key_id
    with pytest.raises(IntegrityError, match="its signature does not hold"):
        verified(canonical(outer), other.public)
    with pytest.raises(IntegrityError, match="no Ed25519 public key"):
        verified(envelope, b"no key")


def changed(outer: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**outer, **fields}


def without(outer: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in outer.items() if key != name}


ENVELOPES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda outer: [outer], "its envelope is no JSON object"),
    (lambda outer: without(outer, "payloadType"), "its envelope has no payloadType"),
    (lambda outer: without(outer, "payload"), "its envelope has no payload"),
    (lambda outer: without(outer, "signatures"), "its envelope has no signatures"),
    (lambda outer: changed(outer, payloadType="text/plain"), "its payload type is not"),
    (lambda outer: changed(outer, payloadType=None), "its payload type is not"),
    (lambda outer: changed(outer, payload=7), "its payload is no base64 text"),
    (lambda outer: changed(outer, payload=""), "its payload is no base64 text"),
    (lambda outer: changed(outer, payload=outer["payload"] + "\n"), "its payload is no base64"),
    (lambda outer: changed(outer, payload="é"), "its payload is no base64 text"),
    (lambda outer: changed(outer, signatures=[]), "exactly one signature"),
    (lambda outer: changed(outer, signatures=outer["signatures"] * 2), "exactly one signature"),
    (lambda outer: changed(outer, signatures="x"), "exactly one signature"),
    (lambda outer: changed(outer, signatures=["x"]), "its signature is no JSON object"),
    (
        lambda outer: changed(outer, signatures=[without(outer["signatures"][0], "sig")]),
        "its signature has no sig",
    ),
    (
        lambda outer: changed(outer, signatures=[{**outer["signatures"][0], "signer": "us"}]),
        "its signature has fields other than keyid, sig",
    ),
    (
        lambda outer: changed(outer, signatures=[{**outer["signatures"][0], "sig": "AAAA"}]),
        "its signature does not hold",
    ),
    (lambda outer: changed(outer, passed=True), "its envelope has fields other than"),
]


@pytest.mark.parametrize(("change", "said"), ENVELOPES)
def test_an_envelope_that_is_not_as_issued_is_refused(
    keys: Keys, envelope: bytes, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    with pytest.raises(IntegrityError, match=said):
        verified(canonical(change(json.loads(envelope))), keys.public)


@pytest.mark.parametrize("data", [b"", b"\x00", b"no JSON", b'{"payload":1,"payload":2}'])
def test_no_json_is_refused(keys: Keys, data: bytes) -> None:
    with pytest.raises(IntegrityError, match="it is not JSON, or it names a field twice"):
        verified(data, keys.public)


STATEMENTS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda inner: b"no JSON", "its payload is not JSON"),
    (lambda inner: b'{"_type":1,"_type":2}', "its payload is not JSON, or it names a field twice"),
    (lambda inner: [], "its statement is no JSON object"),
    (lambda inner: without(inner, "subject"), "its statement has no subject"),
    (lambda inner: changed(inner, more=1), "its statement has fields other than"),
    (lambda inner: changed(inner, _type="https://in-toto.io/Statement/v2"), "not of the type"),
    (
        lambda inner: changed(inner, predicateType="urn:expunge:removal:v2"),
        "another version of expunge made it",
    ),
    (lambda inner: changed(inner, subject=[]), "exactly one subject"),
    (lambda inner: changed(inner, subject=inner["subject"] * 2), "exactly one subject"),
    (lambda inner: changed(inner, subject=[{"name": "x"}]), "its subject has no digest"),
    (
        lambda inner: changed(inner, subject=[{"name": "x", "digest": {"sha1": "0"}}]),
        "the digest of its subject has no sha256",
    ),
    (
        lambda inner: changed(inner, subject=[{"name": 1, "digest": {"sha256": "0"}}]),
        "is no text",
    ),
    (lambda inner: changed(inner, predicate=[]), "its predicate is no JSON object"),
]


@pytest.mark.parametrize(("change", "said"), STATEMENTS)
def test_a_signed_statement_of_another_form_is_refused(
    keys: Keys, stated: dict[str, Any], change: Callable[[dict[str, Any]], object], said: str
) -> None:
    with pytest.raises(IntegrityError, match=said):
        verified(signed(change(stated), keys), keys.public)


def test_the_public_key_alone_signs_nothing(keys: Keys, stated: dict[str, Any]) -> None:
    with pytest.raises(ExpungeError, match=r"signing\.pem"):
        sign(stated, Keys(keys.master, None, keys.public))


@pytest.mark.parametrize("cause", ["revocation", "seal", "guard"])
def test_a_removal_without_a_method_round_trips(cause: certificate.Cause) -> None:
    bare = replace(
        REMOVAL, cause=cause, parent=None, method=None, aggregation=None, seed=None,
        settings=None, deletion_state=None, figures=(), strengths={}, parameters={},
    )  # fmt: skip
    assert Removal.from_json(json.loads(canonical(bare.to_json()))) == bare


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda predicate: without(predicate, "seed"), "seed: Field required"),
        (lambda predicate: changed(predicate, note="x"), "note: Unexpected"),
        (lambda predicate: changed(predicate, version="3"), "version: "),
        (lambda predicate: changed(predicate, cause="whim"), "cause: "),
        (lambda predicate: changed(predicate, kinds={"subject": 1.5}), "kinds.subject: "),
        (lambda predicate: changed(predicate, figures=[{"name": "x"}]), r"figures\.0\.value: "),
        (
            lambda predicate: changed(predicate, figures=[{**predicate["figures"][0], "x": 1}]),
            r"figures\.0\.x: ",
        ),
    ],
)
def test_a_predicate_of_another_form_is_refused_by_its_field(
    change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    with pytest.raises(IntegrityError, match=said):
        Removal.from_json(change(REMOVAL.to_json()))


def test_a_figure_that_is_not_finite_is_not_certified() -> None:
    unmeasured = replace(REMOVAL, figures=(Figure("gap", math.nan, None, None, None),))
    with pytest.raises(ExpungeError, match=r"the value\.figures\[0\]\.value is nan"):
        unmeasured.to_json()


def test_a_certificate_is_checked_without_a_ledger_and_without_torch(
    keys: Keys, envelope: bytes, tmp_path: Any
) -> None:
    (tmp_path / "certificate.json").write_bytes(envelope)
    (tmp_path / "signing.pub").write_bytes(keys.public)
    program = (
        "import sys; from pathlib import Path; from expunge.ledger.certificate import verified; "
        "found = verified(Path('certificate.json').read_bytes(), Path('signing.pub').read_bytes());"
        " print(found['predicate']['version'], "
        "{'torch', 'sqlalchemy', 'dbos', 'alembic', 'fsspec'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["3", "set()"]
