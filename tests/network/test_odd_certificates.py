"""Certificates that no command of knexa makes, lists that are none, wrong clocks, greedy calls."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from knexa.network import authority, messages
from knexa.network.authority import MATCHMAKER
from knexa.network.identity import load_identity
from knexa.network.refusals import RefusedError
from knexa.network.sealing import check_key
from knexa.network.transport import RemoteRefusalError
from tests.network.servers import (
    CALL_S,
    INCARNATION,
    Receiving,
    Served,
    open_channel,
    registration,
)
from tests.network.trial import copy_of_certificates, identity

NOW = datetime.now(UTC)
DNS = x509.DNSName


def signed(
    folder: Path,
    names: Sequence[x509.GeneralName] | None,
    *,
    has_constraints: bool = True,
    begin: datetime = NOW - timedelta(days=1),
    issuer: x509.Name | None = None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return a certificate by the folder's authority that knexa's commands would not make."""
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a0")]))
        .issuer_name(issuer or ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=30))
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if has_constraints:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(ca_key, hashes.SHA256()), key


ODD: dict[str, Any] = {
    "two names": {"names": [DNS("a0"), DNS("a1")]},
    "its name twice": {"names": [DNS("a0"), DNS("a0")]},
    "no name": {"names": []},
    "no extension with names": {"names": None},
    "a wildcard": {"names": [DNS("*")]},
    "a wildcard of names": {"names": [DNS("a*")]},
    "an empty name": {"names": [DNS("")]},
    "a long name": {"names": [DNS("a" * 5000)]},
    "capitals": {"names": [DNS("A0")]},
    "punycode": {"names": [DNS("xn--a0-0ra")]},
    "a line break": {"names": [DNS("a0\n12:00 all is well")]},
    "a NUL": {"names": [DNS("a0\0.evil")]},
    "a trailing dot": {"names": [DNS("a0.")]},
    "an address": {"names": [x509.IPAddress(ip_address("127.0.0.1"))]},
    "a mail address": {"names": [x509.RFC822Name("a0")]},
    "the authority's name": {"names": [DNS("ca")]},
    "no constraints": {"names": [DNS("a0")], "has_constraints": False},
    "a future": {"names": [DNS("a0")], "begin": NOW + timedelta(days=1)},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_of_certificates(tmp_path)


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    here = Served(folder)
    yield here
    here.server.stop()


@pytest.mark.parametrize("kind", ODD)
def test_a_certificate_without_exactly_one_proper_name_is_nobodys(
    folder: Path, served: Served, kind: str
) -> None:
    certificate, key = signed(folder, **ODD[kind])
    der = certificate.public_bytes(serialization.Encoding.DER)
    if kind == "punycode":  # a name like any other, and on no roster
        assert identity("a0", folder).check(der)[0] == "xn--a0-0ra"
    else:
        with pytest.raises(RefusedError, match="certificate: "):
            identity("a0", folder).check(der)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    credentials = grpc.ssl_channel_credentials(
        (folder / "ca.pem").read_bytes(), authority.pem_of(key), pem
    )
    with open_channel(served.port, credentials) as channel:
        call = channel.unary_unary(
            "/knexa.v1.Matchmaker/Register",
            request_serializer=messages.Registration.SerializeToString,
        )
        with pytest.raises(grpc.RpcError):
            call(registration("a0"), timeout=CALL_S)
    assert served.harness.coordinator.members == {}
    assert set(served.server.counts()) <= {"certificate", "handshake", "identity"}
    assert served.server.counts()


def test_bytes_that_are_almost_a_certificate_are_refused_and_no_error_of_ours(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A teacher puts a certificate into its envelope, so it may be anything."""
    reader, rng = identity("a1", folder), random.Random(3)
    good = identity("a0", folder).certificate_der
    for _ in range(3000):
        harmed = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            harmed[rng.randrange(len(harmed))] = rng.randrange(256)
        cut = harmed[: rng.choice([len(harmed), rng.randrange(len(harmed))])]
        if bytes(cut) == good:
            continue
        with pytest.raises(RefusedError, match=r"certificate: |identity: |malformed: "):
            check_key(
                reader, certificate=bytes(cut), name="a0", sealing_key=bytes(32), signature=b"x"
            )


ALMOST = [
    (b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02", b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x7f"),
    (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x7f"),
]
"""Of a certificate: its signature's algorithm, its version, its key's algorithm."""


@pytest.mark.parametrize("change", ALMOST, ids=["signature", "version", "key"])
def test_an_envelope_with_a_certificate_of_an_unknown_kind_is_refused(
    change: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    a1 = Receiving()
    good = identity("a0").certificate_der
    assert change[0] in good
    chunks = a1.chunks()
    chunks[0].envelope.sender.certificate = good.replace(*change)
    assert a1.refusal(chunks) == "certificate"
    assert not [record for record in caplog.records if record.exc_info]
    a1.server.stop()


# Lists of revoked members


def _lists(folder: Path, rng: random.Random) -> Iterator[bytes]:
    good = (folder / authority.LIST).read_bytes()
    der = x509.load_pem_x509_crl(good).public_bytes(serialization.Encoding.DER)
    yield from (b"", b"\0" * 1000, good[:-3], good.upper(), der, (folder / "ca.pem").read_bytes())
    yield from (good.replace(b"-----", b"----"), b"\xff" + good[1:])
    for _ in range(300):
        harmed = bytearray(good)
        harmed[rng.randrange(len(harmed))] ^= 1 << rng.randrange(8)
        if bytes(harmed) != good:
            yield bytes(harmed)


def test_a_list_that_is_not_the_authoritys_lets_nobody_in(folder: Path) -> None:
    """Neither does it let in who was on it, nor end in an error of ours."""
    authority.revoke(folder, ["a1"])
    good = (folder / authority.LIST).read_bytes()
    crl, num_refused = x509.load_pem_x509_crl(good), 0
    a0 = identity("a0")
    a1, a2 = (identity(name).certificate_der for name in ("a1", "a2"))
    for content in _lists(folder, random.Random(4)):
        reader = replace(a0, folder=folder)
        (folder / authority.LIST).write_bytes(content)
        is_same = False  # as after a change of the text around the PEM
        with suppress(*authority.MALFORMED):
            is_same = x509.load_pem_x509_crl(content) == crl
        for der in (a2, a1):
            if not is_same:
                with pytest.raises(RefusedError, match="no list: "):
                    reader.check(der)
        num_refused += not is_same
    assert num_refused > 250


def test_a_list_of_another_authority_with_our_name_lets_nobody_in(
    folder: Path, served: Served, tmp_path: Path
) -> None:
    authority.create(tmp_path / "other")
    (folder / authority.LIST).write_bytes((tmp_path / "other" / authority.LIST).read_bytes())
    with pytest.raises(grpc.RpcError, match="not signed by this federation's authority"):
        served.call(identity("a0"), "Register", registration("a0"))


# Clocks


@pytest.mark.parametrize("minutes", [-4, 4])
def test_clocks_that_differ_by_minutes_do_not_matter(tmp_path: Path, minutes: int) -> None:
    authority.create(tmp_path)
    authority.issue(tmp_path, "a0")
    authority.issue(tmp_path, "a1")
    elsewhere = load_identity(
        tmp_path, "a1", now=lambda: datetime.now(UTC) + timedelta(minutes=minutes)
    )
    assert elsewhere.check(load_identity(tmp_path, "a0").certificate_der)[0] == "a0"


@pytest.mark.parametrize("days", [-2, 31, 91])
def test_a_member_whose_clock_is_off_by_days_refuses_and_is_not_fooled(
    tmp_path: Path, days: int
) -> None:
    """A clock set back makes certificates not valid yet; one set ahead, the list too old."""
    authority.create(tmp_path)
    authority.issue(tmp_path, "a0")
    member = load_identity(tmp_path, "a0")
    object.__setattr__(member, "now", lambda: datetime.now(UTC) + timedelta(days=days))
    with pytest.raises(RefusedError, match=r"not valid at this time|too old"):
        member.check(member.certificate_der)


# Many calls at once


def test_one_members_many_calls_leave_room_for_the_others(served: Served) -> None:
    """It may have four calls under way; the rest is told to come again, and others are served."""
    for name in ("a0", "a1"):
        served.call(identity(name), "Register", registration(name))
    served.harness.coordinator.members["a0"].prepared_round = 1
    status = messages.Status(incarnation=INCARNATION, wait_s=20.0, prepared_round=1)
    a0 = identity("a0")
    credentials = grpc.ssl_channel_credentials(
        a0.ca_pem, authority.pem_of(a0.key), a0.certificate_pem
    )
    with open_channel(served.port, credentials) as channel:
        call = channel.unary_unary(
            "/knexa.v1.Matchmaker/Await", request_serializer=messages.Status.SerializeToString
        )
        calls = [call.future(status, timeout=20.0) for _ in range(200)]
        turned_away = Counter[grpc.StatusCode]()
        for one in calls:
            with suppress(grpc.FutureTimeoutError):
                error = one.exception(timeout=0.5)
                turned_away[error.code()] += 1
        assert sum(turned_away.values()) == 196
        assert set(turned_away) <= {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        }
        served.call(identity("a1"), "Beat", messages.Heartbeat(incarnation=INCARNATION))
        for one in calls:
            one.cancel()
    assert served.server.counts() == {}


def test_the_matchmakers_own_certificate_is_no_agents(served: Served) -> None:
    for method, request in (
        ("Register", registration(MATCHMAKER)),
        ("Await", messages.Status(incarnation=INCARNATION)),
        ("SubmitFeedback", messages.Feedback(incarnation=INCARNATION)),
        ("Beat", messages.Heartbeat(incarnation=INCARNATION)),
    ):
        with pytest.raises(RemoteRefusalError, match="not on this federation's roster"):
            served.call(identity(MATCHMAKER), method, request)
