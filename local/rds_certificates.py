"""Writes Amazon's certificate authorities for RDS into the dependencies layer: `make rds-certificates`.

In goes Amazon's bundle, from its address or a file; out comes layers/dependencies/rds-global-bundle.pem with the
roots that are valid, each under its name and fingerprint. What changed is printed, and `git diff` shows it. Nothing is
written with --check, which fails if something did change.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

ADDRESS = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
"""https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html"""

BUNDLE = Path(__file__).parents[1] / "layers" / "dependencies" / "rds-global-bundle.pem"

_NAME = re.compile(r"Amazon RDS ([a-z]+(?:-[a-z]+)+-[0-9]+) Root CA (RSA2048|RSA4096|ECC384) G[0-9]+")
"""Without the regions "Beta" and "Preview" of Amazon's bundle, which take no ordinary databases."""


class NotARoot(Exception):
    """A certificate that has the name of a root of RDS but is not a valid root."""


def read_roots(pem: bytes, now: dt.datetime) -> list[x509.Certificate]:
    """The valid roots of RDS's regions in a bundle, by name; servers send what is between them and their own.

    Raises:
        NotARoot: one is not signed by itself, or may not sign others.
        ValueError: it is no bundle of certificates.
    """
    roots = []
    for certificate in x509.load_pem_x509_certificates(pem):
        name = name_of(certificate)
        if not _NAME.fullmatch(name) or certificate.not_valid_after_utc <= now:
            continue
        try:
            certificate.verify_directly_issued_by(certificate)
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        except (InvalidSignature, ValueError, x509.ExtensionNotFound) as error:
            raise NotARoot(f"{name} is not signed by itself, or is no authority") from error
        if not constraints.value.ca:
            raise NotARoot(f"{name} is no authority")
        roots.append(certificate)
    return sorted(roots, key=name_of)


def region_of(root: x509.Certificate) -> str:
    """The AWS region whose databases it certifies."""
    found = _NAME.fullmatch(name_of(root))
    return found[1] if found else ""


def name_of(certificate: x509.Certificate) -> str:
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)


def written_as(roots: list[x509.Certificate]) -> str:
    """The bundle as it is kept. openssl and Python skip the lines between the certificates."""
    return "\n".join(
        f"# {name_of(root)}\n# SHA-256 {root.fingerprint(SHA256()).hex(':').upper()}\n"
        f"# {root.not_valid_before_utc:%Y-%m-%d} to {root.not_valid_after_utc:%Y-%m-%d}\n"
        f"{root.public_bytes(Encoding.PEM).decode()}"
        for root in roots
    )


def _download() -> bytes:
    with urllib.request.urlopen(ADDRESS, timeout=30) as response:
        content: bytes = response.read(10_000_000)
    return content


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make rds-certificates", description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, help=f"a file instead of {ADDRESS}")
    parser.add_argument("--output", type=Path, default=BUNDLE, help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="only compare, and fail if there is a difference")
    options = parser.parse_args(arguments)
    now = dt.datetime.now(dt.UTC)
    try:
        new = read_roots(options.bundle.read_bytes() if options.bundle else _download(), now)
        old = read_roots(options.output.read_bytes(), now) if options.output.exists() else []
    except (OSError, ValueError, NotARoot) as error:
        print(f"Nothing was changed: {error}", file=sys.stderr)
        return 1
    for root in sorted({*old, *new}, key=name_of):
        if (root in old) != (root in new):
            print("+" if root in new else "-", name_of(root), root.fingerprint(SHA256()).hex(":").upper())
    changed = set(old) != set(new)
    if changed and not options.check:
        options.output.write_text(written_as(new))
    print(f"{len(new)} certificates of {len({region_of(root) for root in new})} regions.")
    return int(changed and options.check)


if __name__ == "__main__":
    sys.exit(main())
