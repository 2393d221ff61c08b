"""A federation's certificate authority: issues members' certificates and revokes them.

Keys are ECDSA on P-256, which every TLS library accepts. A certificate holds one name, the agent's
in the roster or ``cpm``; the name is the identity. Revoked serial numbers are in a list that the
authority signs; a member without a current list refuses everybody.
"""

import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from knexa.errors import UserError

MATCHMAKER: Final = "cpm"
AUTHORITY: Final = "ca"
LIST: Final = "revoked.crl"
_ISSUED: Final = "issued"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SKEW = timedelta(minutes=5)  # between the clocks of two hosts
LIST_DAYS: Final = 30
MALFORMED: Final = (
    *(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.DuplicateExtension, x509.ExtensionNotFound, x509.UnsupportedGeneralNameType),
)
"""What ``cryptography`` raises for bytes that are no certificate, request or list, or odd ones."""

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the wall-clock time, against which certificates are valid."""
    return datetime.now(UTC)


def check_name(name: str) -> str:
    """Return the name if a certificate may hold it.

    Raises:
        UserError: It may not.
    """
    if _NAME.fullmatch(name) is None or name == AUTHORITY:
        raise UserError(
            f"{name!r:.80} is no name for a certificate: use the agent's name in the roster, of "
            f"a-z, 0-9 and -, or {MATCHMAKER} for the matchmaker"
        )
    return name


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read; an existing file is never overwritten."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError(f"{path} exists: keys are never overwritten; move it away first") from None
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as unencrypted PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def create(folder: Path, *, days: int = 365, now: Now = utc_now) -> None:
    """Make a new authority in ``folder``: ca.pem, ca.key and an empty list of revoked members.

    Raises:
        UserError: The folder has one already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / f"{AUTHORITY}.key", pem_of(key))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "knexa federation")])
    start = now()
    certificate = (
        _builder(subject, subject, key.public_key(), start, start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{AUTHORITY}.pem").write_bytes(_pem(certificate))
    revoke(folder, (), now=now)


def request(folder: Path, name: str) -> Path:
    """Make a member's key, which never leaves its host, and a certificate request."""
    check_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / f"{name}.key", pem_of(key))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    wanted = x509.CertificateSigningRequestBuilder().subject_name(subject)
    path = folder / f"{name}.csr"
    path.write_bytes(wanted.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def sign(folder: Path, name: str, wanted: bytes, *, days: int = 90, now: Now = utc_now) -> Path:
    """Sign a request for ``name``; whatever else the request asks for is ignored.

    The certificate ends with the authority's at the latest. A copy in issued/NAME stays after a
    renewal, so that ``revoke`` finds it.

    Raises:
        UserError: The request is invalid or for another name; the authority is missing or expired.
    """
    check_name(name)
    ca, ca_key = _authority(folder, now)
    try:
        parsed = x509.load_pem_x509_csr(wanted)
        asked = [a.value for a in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        key = parsed.public_key()
        if not parsed.is_signature_valid:
            raise ValueError("its signature does not hold")
    except MALFORMED as error:
        raise UserError(f"this is no certificate request: {str(error)[:80]}") from None
    if asked != [name]:
        raise UserError(f"the request is for {asked!r:.80}, not for {name}: sign what was asked")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UserError("the request's key is not on P-256: make it with knexa certs request")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = now()
    end = min(start + timedelta(days=days), ca.not_valid_after_utc)
    certificate = (
        _builder(subject, ca.subject, key, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    path, record = folder / f"{name}.pem", folder / _ISSUED / name
    record.mkdir(parents=True, exist_ok=True)
    (record / f"{certificate.serial_number:x}.pem").write_bytes(_pem(certificate))
    path.write_bytes(_pem(certificate))
    return path


def issue(folder: Path, name: str, *, days: int = 90, now: Now = utc_now) -> Path:
    """Make key and certificate in one place, for trials on one host.

    Raises:
        UserError: The authority is missing or expired, or the key exists.
    """
    _authority(folder, now)  # fails before a key is made that nobody can sign
    wanted = request(folder, name)
    path = sign(folder, name, wanted.read_bytes(), days=days, now=now)
    wanted.unlink()
    return path


def revoke(folder: Path, names: Iterable[str], *, now: Now = utc_now) -> Path:
    """Sign a new list of revoked certificates: those on the old one, and all of ``names``.

    Without names the list is only renewed.

    Raises:
        UserError: There is no certificate of that name here, or one is damaged; the authority is
            missing or expired.
    """
    ca, ca_key = _authority(folder, now)
    path, start = folder / LIST, now()
    serials = {entry.serial_number for entry in read_list(path, ca)} if path.exists() else set()
    for name in names:
        serials |= _serials(folder, check_name(name))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(start - _SKEW)
        .next_update(start + timedelta(days=LIST_DAYS))
    )
    for serial in sorted(serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(ca_key, hashes.SHA256())
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    temporary.replace(path)
    return path


def _serials(folder: Path, name: str) -> set[int]:
    """Return the serial numbers of all certificates issued for a name."""
    newest, files = folder / f"{name}.pem", list((folder / _ISSUED / name).glob("*.pem"))
    if newest.is_file():  # may have been issued before there were records
        files.append(newest)
    if not files:
        raise UserError(f"{newest} is not here: only a certificate itself can be revoked")
    return {read_certificate(file).serial_number for file in files}


def read_certificate(path: Path) -> x509.Certificate:
    """Return a certificate from its file.

    Raises:
        UserError: It cannot be read, or is no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except MALFORMED:
        raise UserError(f"{path} is no certificate: make it with knexa certs") from None


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error for a key or certificate that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} is missing: knexa certs makes keys and certificates")
    return UserError(f"{path} cannot be read: {error.strerror}; let this user read it")


def read_list(path: Path, ca: x509.Certificate) -> x509.CertificateRevocationList:
    """Return the list of revoked certificates.

    Raises:
        UserError: It cannot be read, or is not signed by this authority.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): copy the authority's list of revoked "
            "members"
        ) from None
    try:
        found = x509.load_pem_x509_crl(content)
        key = ca.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        is_own = found.is_signature_valid(key)
    except MALFORMED:
        raise UserError(f"{path} is no list of revoked members: copy the authority's") from None
    if not is_own:
        raise UserError(f"{path} is not signed by this federation's authority: copy its own list")
    return found


def _authority(folder: Path, now: Now) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        ca = x509.load_pem_x509_certificate((folder / f"{AUTHORITY}.pem").read_bytes())
        key = serialization.load_pem_private_key(
            (folder / f"{AUTHORITY}.key").read_bytes(), password=None
        )
    except (OSError, *MALFORMED):
        raise UserError(
            f"{folder} holds no authority (ca.pem and ca.key): make one with knexa certs init DIR"
        ) from None
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    if ca.not_valid_after_utc < now():
        raise UserError(
            f"the authority in {folder} has expired: make a new one in another folder, and "
            "everybody's certificates with it"
        )
    return ca, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _SKEW)
        .not_valid_after(end)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
