"""The certificate authorities of RDS that the functions trust, and the command that fetches them anew."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from local.rds_certificates import BUNDLE, main, name_of, read_roots, region_of, written_as
from testbed.certificates import Authority

NOW = dt.datetime.now(dt.UTC)
ROOTS = read_roots(BUNDLE.read_bytes(), NOW)

# The regions of the partition "aws" that had opened when the certificates were gathered; the later ones are in
# docs/decisions/certificates-of-rds.md.
REGIONS = {
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ca-central-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "me-central-1",
    "me-south-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
}


def test_every_region_has_its_three_roots() -> None:
    assert {name_of(root) for root in ROOTS} >= {
        f"Amazon RDS {region} Root CA {algorithm} G1"
        for region in REGIONS
        for algorithm in ("RSA2048", "RSA4096", "ECC384")
    }


def test_bundle_has_nothing_but_roots_once_each() -> None:
    everything = x509.load_pem_x509_certificates(BUNDLE.read_bytes())
    assert sorted(everything, key=name_of) == ROOTS
    assert len({root.fingerprint(SHA256()) for root in everything}) == len(everything)


@pytest.mark.parametrize("root", ROOTS, ids=name_of)
def test_root_is_a_self_signed_authority_for_decades(root: x509.Certificate) -> None:
    root.verify_directly_issued_by(root)
    assert root.not_valid_before_utc < NOW
    assert root.not_valid_after_utc > dt.datetime(2060, 1, 1, tzinfo=dt.UTC)
    # What Python 3.13, which Lambda runs, asks of an authority.
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert root.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_each_certificate_is_listed_with_its_name_and_fingerprint() -> None:
    assert BUNDLE.read_text() == written_as(ROOTS)


def test_python_trusts_them_all() -> None:
    context = ssl.create_default_context(cafile=str(BUNDLE))
    assert len(context.get_ca_certs()) == len(ROOTS)
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_new_region_is_added_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published, kept = tmp_path / "global-bundle.pem", tmp_path / "kept.pem"
    kept.write_bytes(BUNDLE.read_bytes())
    new = Authority("Amazon RDS xx-test-1 Root CA ECC384 G1")
    expired = Authority("Amazon RDS yy-test-1 Root CA ECC384 G1", days=-1)
    preview = Authority("Amazon RDS Preview us-east-2 Root CA ECC384 G1")
    published.write_bytes(BUNDLE.read_bytes() + new.pem + expired.pem + preview.pem)
    assert main([str(published), "--output", str(kept)]) == 0
    assert {region_of(root) for root in read_roots(kept.read_bytes(), NOW)} >= REGIONS | {"xx-test-1"}
    assert capsys.readouterr().out.startswith("+ Amazon RDS xx-test-1 Root CA ECC384 G1 ")


def test_check_fails_on_a_difference_and_writes_nothing(tmp_path: Path) -> None:
    published, kept = tmp_path / "global-bundle.pem", tmp_path / "kept.pem"
    kept.write_bytes(BUNDLE.read_bytes())
    published.write_bytes(BUNDLE.read_bytes())
    assert main([str(published), "--output", str(kept), "--check"]) == 0
    published.write_bytes(Authority("Amazon RDS xx-test-1 Root CA ECC384 G1").pem + BUNDLE.read_bytes())
    assert main([str(published), "--output", str(kept), "--check"]) == 1
    assert kept.read_bytes() == BUNDLE.read_bytes()


def test_certificate_with_only_the_name_of_a_root_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, kept = tmp_path / "global-bundle.pem", tmp_path / "kept.pem"
    published.write_bytes(Authority("Somebody").certificate_of("Amazon RDS us-east-1 Root CA RSA2048 G1").pem)
    assert main([str(published), "--output", str(kept)]) == 1
    assert "is not signed by itself" in capsys.readouterr().err
    assert not kept.exists()
