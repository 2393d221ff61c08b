"""Only a valid certificate makes an identity."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from knexa.cli.commands import run_command_line
from knexa.errors import UserError
from knexa.network import authority
from knexa.network.identity import load_identity
from knexa.network.refusals import RefusedError
from tests.network.trial import copy_of_certificates, days_ago, identity


def der(folder: Path, name: str) -> bytes:
    certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
    return certificate.public_bytes(serialization.Encoding.DER)


def reason_of(member: object, shown: bytes) -> str:
    with pytest.raises(RefusedError) as caught:
        member.check(shown)  # type: ignore[attr-defined]
    return caught.value.reason


def test_a_member_knows_another_by_the_name_in_its_certificate() -> None:
    assert identity("a0").check(identity("a1").certificate_der)[0] == "a1"


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    authority.create(tmp_path)
    authority.issue(tmp_path, "a1")
    assert reason_of(identity("a0"), der(tmp_path, "a1")) == "certificate"


def test_the_authoritys_own_certificate_is_no_members(tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path)
    assert reason_of(identity("a0"), der(folder, "ca")) == "certificate"


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path)
    authority.issue(folder, "old", days=1, now=lambda: days_ago(2))
    assert reason_of(identity("a0", folder), der(folder, "old")) == "certificate"
    with pytest.raises(UserError, match="not valid at this time"):
        load_identity(folder, "old")


def test_a_certificate_that_expires_while_connected_is_refused_from_then_on() -> None:
    later = datetime.now(UTC) + timedelta(days=91)
    member = load_identity(identity("a0").folder, "a0")
    object.__setattr__(member, "now", lambda: later)
    assert reason_of(member, identity("a1").certificate_der) == "certificate"


def test_nobody_starts_under_an_authority_that_has_expired(tmp_path: Path) -> None:
    authority.create(tmp_path, days=1, now=lambda: days_ago(2))
    authority.issue(tmp_path, "a0", now=lambda: days_ago(2))
    with pytest.raises(UserError, match=r"ca\.pem is not valid at this time"):
        load_identity(tmp_path, "a0")
    assert run_command_line(["certs", "revoke", str(tmp_path)]) == 2
    with pytest.raises(UserError, match="expired"):
        authority.issue(tmp_path, "a1")
    assert not (tmp_path / "a1.key").exists()


def test_no_certificate_outlasts_its_authority(tmp_path: Path) -> None:
    authority.create(tmp_path, days=10)
    authority.issue(tmp_path, "a0", days=90)
    member = load_identity(tmp_path, "a0")
    assert member.certificate.not_valid_after_utc == member.ca.not_valid_after_utc


def test_a_running_member_sees_a_new_list_of_revoked_members(tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path)
    member = identity("a0", folder)
    assert member.check(der(folder, "a1"))[0] == "a1"
    authority.revoke(folder, ["a1"])
    os.utime(folder / authority.LIST, ns=(1, 1))  # a clock too coarse to tell would not matter
    assert reason_of(member, der(folder, "a1")) == "revoked"
    assert member.check(der(folder, "a2"))[0] == "a2"
    authority.revoke(folder, [])  # renewed, and a1 stays on it
    assert reason_of(identity("a0", folder), der(folder, "a1")) == "revoked"


def test_revoking_a_name_revokes_every_certificate_it_was_ever_given(tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path)
    first = der(folder, "a1")
    authority.issue(folder, "a1-b")  # another member, whose name begins alike
    for _ in range(2):
        (folder / "a1.key").unlink()
        authority.issue(folder, "a1")
    authority.revoke(folder, ["a1"])
    member = identity("a0", folder)
    assert [reason_of(member, shown) for shown in (first, der(folder, "a1"))] == ["revoked"] * 2
    assert member.check(der(folder, "a1-b"))[0] == "a1-b"


def test_a_certificate_that_was_signed_before_records_were_kept_can_be_revoked(
    tmp_path: Path,
) -> None:
    folder = copy_of_certificates(tmp_path)
    shutil.rmtree(folder / "issued")
    authority.revoke(folder, ["a1"])
    assert reason_of(identity("a0", folder), der(folder, "a1")) == "revoked"


@pytest.mark.parametrize("harm", ["missing", "old", "forged", "garbage", "cut"])
def test_without_a_good_list_everybody_is_refused(tmp_path: Path, harm: str) -> None:
    folder = copy_of_certificates(tmp_path)
    member, shown = identity("a0", folder), der(folder, "a1")
    file = folder / authority.LIST
    if harm == "missing":
        file.unlink()
    elif harm == "old":
        authority.revoke(folder, [], now=lambda: days_ago(authority.LIST_DAYS + 1))
    elif harm == "forged":
        authority.create(tmp_path / "other")
        file.write_bytes((tmp_path / "other" / authority.LIST).read_bytes())
    else:
        file.write_bytes(b"x" if harm == "garbage" else file.read_bytes()[:100])
    assert reason_of(member, shown) == "no list"
    with pytest.raises(UserError):
        load_identity(folder, "a0")


def test_a_signature_holds_for_its_signer_and_message_alone() -> None:
    signer, reader = identity("a1"), identity("a0")
    signature = signer.sign(b"message")
    reader.check_signature(signer.certificate_der, "a1", signature, b"message")
    for name, message in (("a2", b"message"), ("a1", b"other")):
        with pytest.raises(RefusedError) as caught:
            reader.check_signature(signer.certificate_der, name, signature, message)
        assert caught.value.reason == "identity"


@pytest.mark.parametrize("missing", ["a0.pem", "a0.key", "ca.pem", "revoked.crl"])
def test_no_member_without_all_its_files(tmp_path: Path, missing: str) -> None:
    folder = copy_of_certificates(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(UserError, match=missing.replace(".", r"\.")):
        load_identity(folder, "a0")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path)
    (folder / "a0.key").chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        load_identity(folder, "a0")


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path)
    (folder / "a0.key").unlink()
    (folder / "a0.key").mkdir(mode=0o700)
    with pytest.raises(UserError, match=r"a0\.key cannot be read"):
        load_identity(folder, "a0")


def test_somebody_elses_key_or_certificate_is_refused(tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path)
    (folder / "a0.pem").write_bytes((folder / "a1.pem").read_bytes())
    with pytest.raises(UserError, match="not the key"):
        load_identity(folder, "a0")
    (folder / "a0.key").write_bytes((folder / "a1.key").read_bytes())
    with pytest.raises(UserError, match="the certificate of a1"):
        load_identity(folder, "a0")


def test_the_command_line_makes_what_members_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca, host = tmp_path / "ca", tmp_path / "host"
    assert run_command_line(["certs", "init", str(ca)]) == 0
    assert run_command_line(["certs", "request", str(host), "a0"]) == 0
    assert run_command_line(["certs", "sign", str(ca), "a0", str(host / "a0.csr")]) == 0
    for file in ("a0.pem", "ca.pem", "revoked.crl"):
        (host / file).write_bytes((ca / file).read_bytes())
    assert load_identity(host, "a0").name == "a0"
    assert not (ca / "a0.key").exists()
    assert (ca / "ca.key").stat().st_mode & 0o777 == 0o600
    assert run_command_line(["certs", "revoke", str(ca), "a0"]) == 0
    assert run_command_line(["certs", "init", str(ca)]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_mistakes_at_the_authority_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of_certificates(tmp_path)
    (folder / "a1.pem").write_bytes(b"x")
    (folder / "issued" / "a2" / "1.pem").write_bytes(b"x")
    for command, told in (
        (["init", str(folder / "ca.pem")], "File exists"),
        (["init", str(folder / "ca.pem" / "below")], "Not a directory"),
        (["init", "/proc/none"], "No such file"),
        (["issue", str(folder / "ca.pem"), "a3"], "no authority"),
        (["request", str(folder / "ca.pem"), "a3"], "File exists"),
        (["revoke", str(folder), "a1"], "a1.pem is no certificate"),
        (["revoke", str(folder), "a2"], "1.pem is no certificate"),
        (["revoke", str(folder), "nobody"], "nobody.pem is not here"),
    ):
        assert run_command_line(["certs", *command]) == 2, command
        error = capsys.readouterr().err
        assert told in error, error
        assert error.startswith("error: ")
        assert error.count("\n") == 1


def test_days_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for days in ("0", "x", "-1"):
        assert run_command_line(["certs", "init", str(tmp_path), "--days", days]) == 2
        assert f"{days} is no number of days from 1 to 3650" in capsys.readouterr().err


def test_what_was_asked_too_early_can_be_asked_again(tmp_path: Path) -> None:
    issue = ["certs", "issue", str(tmp_path), "a0"]
    assert run_command_line(issue) == 2
    assert run_command_line(["certs", "init", str(tmp_path)]) == 0
    assert run_command_line(issue) == 0


def test_the_authority_signs_what_was_asked_for_alone(tmp_path: Path) -> None:
    folder = copy_of_certificates(tmp_path)
    wanted = authority.request(tmp_path / "host", "mallory").read_bytes()
    with pytest.raises(UserError, match="not for cpm"):
        authority.sign(folder, "cpm", wanted)
    with pytest.raises(UserError, match="no certificate request"):
        authority.sign(folder, "cpm", b"nothing")


@pytest.mark.parametrize("name", ["", "A", "a b", "ca", "../x", "-a", "a" * 64])
def test_names_that_would_not_be_names_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        authority.check_name(name)
