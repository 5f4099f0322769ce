"""The certificate that an engine shows to machines that join. They know it by its fingerprint, from whoever started
both; no authority signs it (RFC 7469 calls this pinning)."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from paintover_local.private_files import read_private, write_private

from paintover_engine.service.workers.wire import SERVER_NAME

_YEARS = 10


@dataclass(frozen=True)
class Certificate:
    """certificate, key: PEM."""

    certificate: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.certificate)


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a PEM certificate, in hexadecimal."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))).hexdigest()


def own_certificate(path: Path) -> Certificate:
    """The certificate and key of a file that its owner alone reads; made where there is none."""
    if not path.exists():
        write_private(path, _made())
    text = read_private(path)
    end = b"-----END PRIVATE KEY-----\n"
    key, _, certificate = text.partition(end)
    return Certificate(certificate, key + end)


def _made() -> bytes:
    """A key of the curve P-256 and a certificate of it, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
