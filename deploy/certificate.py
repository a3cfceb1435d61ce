"""A certificate for a demo, signed by itself: ``certificate.py DIRECTORY OWNER NAME...``, once.

The key is readable by its owner alone, a number of a user; ``-`` is who calls this.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def make_certificate(directory: Path, owner: str, names: list[str]) -> None:
    """Write ``certificate.pem`` and ``key.pem``, unless there is one that is still good."""
    path, now = directory / "certificate.pem", datetime.now(UTC)
    written = directory / "key.pem"
    if path.exists():
        keep_to(written, owner)
        known = x509.load_pem_x509_certificate(path.read_bytes())
        if known.not_valid_after_utc > now + timedelta(days=7):
            return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    written.unlink(missing_ok=True)
    written.touch(0o600)
    written.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    keep_to(written, owner)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def keep_to(key: Path, owner: str) -> None:
    """Let only its owner read a key."""
    key.chmod(0o600)
    if owner != "-":
        os.chown(key, int(owner), -1)


if __name__ == "__main__":
    make_certificate(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
