"""Certificates made on the fly, for tests of TLS with real servers."""

import datetime as dt
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = dt.datetime.now(dt.UTC)


class Authority:
    """Signs certificates into a folder: `{name}.crt` beside `{name}.key`; its own is `file`."""

    def __init__(self, folder: Path, name: str = "ca", days: float = 300) -> None:
        self.file = folder / f"{name}.crt"
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"{name} of tests")
        ours = _builder(self._name, self._name, self._key.public_key(), days)
        ours = ours.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        _write(self.file, ours.sign(self._key, hashes.SHA256()))

    def sign(self, name: str, *, file: str = "", hosts: tuple[str, ...] = (), days: float = 200) -> Path:
        """A certificate for this common name and these hosts, in files called `file`, else like it."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._name, key.public_key(), days)
        if hosts:
            names = [x509.IPAddress(ip_address(h)) if h[0].isdigit() else x509.DNSName(h) for h in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        cert = self._folder / f"{file or name}.crt"
        _write(key_of(cert), key)
        _write(cert, builder.sign(self._key, hashes.SHA256()))
        return cert


def key_of(cert: Path) -> Path:
    """The key beside a certificate."""
    return cert.with_suffix(".key")


def end_of(cert: Path) -> float:
    """When it ends, Unix seconds."""
    return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc.timestamp()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=days))
    )


def _write(file: Path, made: x509.Certificate | ec.EllipticCurvePrivateKey) -> None:
    """Whole at once, as whoever renews certificates does."""
    new = file.with_suffix(".new")
    if isinstance(made, x509.Certificate):
        new.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    else:
        new.touch(mode=0o600)
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        new.write_bytes(made.private_bytes(serialization.Encoding.PEM, form, plain))
    new.rename(file)
