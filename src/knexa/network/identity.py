"""A member's own certificate and key, and checks of other members' certificates."""

import stat
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from knexa.errors import UserError
from knexa.network.authority import (
    AUTHORITY,
    LIST,
    Now,
    check_name,
    read_certificate,
    read_list,
    unreadable,
    utc_now,
)
from knexa.network.refusals import RefusedError


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A member's certificate and key, and the authority that it checks others against.

    Attributes:
        name: The certificate's name.
        certificate: The member's certificate.
        key: The certificate's private key.
        ca: The federation's authority.
        folder: Where the files are; the list of revoked members is read again when it changes.
        now: The wall clock.
    """

    name: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    ca: x509.Certificate
    folder: Path
    now: Now = utc_now
    _revocations: "_RevocationList" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_revocations", _RevocationList(self.folder / LIST, self.ca))

    @property
    def certificate_der(self) -> bytes:
        """The certificate in DER, as messages carry it."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM, as TLS libraries expect it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate in PEM."""
        return self.ca.public_bytes(serialization.Encoding.PEM)

    def sign(self, message: bytes) -> bytes:
        """Return a signature that ``check_signature`` of others accepts."""
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def check(self, der: bytes) -> tuple[str, x509.Certificate]:
        """Return the name in a certificate of this federation that is valid now.

        Raises:
            RefusedError: It is invalid; the reason is ``no list`` where the revocation list is
                missing or outdated.
        """
        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.verify_directly_issued_by(self.ca)
            name = _name_in(certificate)
            is_authority = certificate.extensions.get_extension_for_class(
                x509.BasicConstraints
            ).value.ca
        except Exception:  # a peer chooses the bytes, and so which of many errors they raise
            raise RefusedError(
                "certificate", "not one that this federation's authority made"
            ) from None
        if is_authority:
            raise RefusedError("certificate", "an authority's own certificate is no member's")
        if not _is_valid(certificate, self.now()):
            raise RefusedError("certificate", f"{name}'s is not valid at this time")
        self._revocations.check(certificate.serial_number, name, self.now)
        return name, certificate

    def check_signature(self, der: bytes, name: str, signature: bytes, message: bytes) -> None:
        """Check that the member ``name`` signed the message.

        Raises:
            RefusedError: The certificate is invalid or another member's, or the signature is wrong.
        """
        found, certificate = self.check(der)
        if found != name:
            raise RefusedError("identity", f"{found} speaks for {name:.64}")
        key = certificate.public_key()
        try:
            assert isinstance(key, ec.EllipticCurvePublicKey)
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise RefusedError("identity", f"{name}'s signature does not hold") from None


def load_identity(folder: Path, name: str, *, now: Now = utc_now) -> Identity:
    """Read NAME.pem, NAME.key, ca.pem and revoked.crl, and check them.

    Raises:
        UserError: A file is missing, readable by others, of another federation, revoked or expired.
    """
    check_name(name)
    certificate = read_certificate(folder / f"{name}.pem")
    ca = read_certificate(folder / f"{AUTHORITY}.pem")
    if not _is_valid(ca, now()):
        raise UserError(
            f"{folder / AUTHORITY}.pem is not valid at this time: set the clock, or copy the "
            "federation's new authority and a new certificate from it"
        )
    file = folder / f"{name}.key"
    key = _read_key(file)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise UserError(f"{file} is not the key of {name}.pem: they are made together")
    identity = Identity(name=name, certificate=certificate, key=key, ca=ca, folder=folder, now=now)
    try:
        found, _ = identity.check(identity.certificate_der)
    except RefusedError as error:
        raise UserError(f"{folder / name}.pem cannot be used: {error}") from None
    if found != name:
        raise UserError(f"{folder / name}.pem is the certificate of {found}, not of {name}")
    return identity


class _RevocationList:
    """The newest list of revoked members; read again when its file changes."""

    def __init__(self, path: Path, ca: x509.Certificate) -> None:
        self._path, self._ca, self._lock = path, ca, threading.Lock()
        self._read: tuple[int, x509.CertificateRevocationList] | None = None

    def check(self, serial: int, name: str, now: Now) -> None:
        try:
            newest = self._newest()
        except UserError as error:
            raise RefusedError("no list", f"nobody is known not to be revoked: {error}") from None
        if newest.next_update_utc is None or newest.next_update_utc < now():
            raise RefusedError("no list", f"{self._path.name} is too old to tell: copy a new one")
        if newest.get_revoked_certificate_by_serial_number(serial) is not None:
            raise RefusedError("revoked", f"{name}'s certificate was revoked")

    def _newest(self) -> x509.CertificateRevocationList:
        with self._lock:
            try:
                changed = self._path.stat().st_mtime_ns
            except OSError:
                changed = -1  # read_list says that it is missing
            if self._read is None or self._read[0] != changed:
                self._read = changed, read_list(self._path, self._ca)
            return self._read[1]


def _read_key(path: Path) -> object:
    """Return a private key that nobody else on this machine can read."""
    try:
        is_open = stat.S_IMODE(path.stat().st_mode) & 0o077
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    if is_open:
        raise UserError(f"{path} is open to others on this machine: chmod 600 it")
    try:
        return serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        raise UserError(f"{path} holds no unencrypted private key: make a new one") from None


def _is_valid(certificate: x509.Certificate, moment: datetime) -> bool:
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


def _name_in(certificate: x509.Certificate) -> str:
    """Return the one name of a member's certificate."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (name,) = names  # ValueError where there is not exactly one
    if not isinstance(name, x509.DNSName):
        raise ValueError("no name")
    return check_name(name.value)
