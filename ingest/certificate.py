"""Certificates in files: loading them into a TLS context, when they end, whether they were renewed.

Assumes PEM. Faults name the file and the setting; a key that needs a passphrase is refused, not asked for.
"""

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509

from ingest.settings import SettingsError

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Of each file: modification (ns), inode and bytes; None for one that is not there."""


class CertificateError(SettingsError, OSError):
    """A certificate or key can't be used; names the setting, the file and the fault."""


def stamp(*files: Path | None) -> Stamp:
    """Differs from an earlier one when a file was written or replaced since, links followed."""
    return tuple(_stamp(file) for file in files if file)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def load_authority(context: ssl.SSLContext, file: Path, setting: str) -> None:
    """Trust what the authority of this file signed. Raises `CertificateError`."""
    try:
        context.load_verify_locations(file)
    except OSError as error:
        raise CertificateError(
            f"{setting} {file}: {_reason(error)}; it must hold certificates as PEM"
        ) from None


def load_chain(context: ssl.SSLContext, cert: Path, key: Path | None, setting: str) -> None:
    """Show this certificate from now on. Raises `CertificateError`; then the context is as it was."""
    try:
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # with a key that does not belong to it ours is lost
        for taker in (trial, context):
            taker.load_cert_chain(cert, key, password="")  # else OpenSSL would ask on the terminal
    except OSError as error:
        raise CertificateError(f"{setting} {cert} with {key}: {_reason(error)}; they must be PEM and belong to "
                               "each other, the key without a passphrase") from None  # fmt: skip


def _reason(error: OSError) -> str:
    return (error.strerror if not isinstance(error, ssl.SSLError) else error.reason) or str(error)


def first_end(file: Path) -> datetime:
    """When the first certificate of a chain to end does. Raises OSError or ValueError."""
    return min(_ends(file))


def last_end(file: Path) -> datetime:
    """When none of a bundle of authorities holds any more: during a rotation it has the old one and the new one.

    Raises OSError or ValueError.
    """
    return max(_ends(file))


def _ends(file: Path) -> list[datetime]:
    return [one.not_valid_after_utc for one in x509.load_pem_x509_certificates(file.read_bytes())]
