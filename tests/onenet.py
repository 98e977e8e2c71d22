"""OneNET's envelope as the platform makes it, for tests: signed, and encrypted."""

import base64
from hashlib import md5

import pytest

TOKEN, NONCE, KEY = "tokenT0ken", "C1z3?giR", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"


def signature(text, nonce=NONCE):
    """The signature of a text."""
    return base64.b64encode(md5((TOKEN + nonce + text).encode()).digest()).decode()


def encrypted(text, key=KEY):
    """As the platform encrypts: 16 random bytes, the length, the text, PKCS#7. Skips without the library."""
    algorithms = pytest.importorskip("cryptography.hazmat.primitives.ciphers.algorithms")
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    modes = pytest.importorskip("cryptography.hazmat.primitives.ciphers.modes")
    secret = base64.b64decode(key + "=")
    plain = bytes(range(16)) + len(text.encode()).to_bytes(4, "big") + text.encode()
    padding = 16 - len(plain) % 16
    sealing = ciphers.Cipher(algorithms.AES(secret), modes.CBC(secret[:16])).encryptor()
    return base64.b64encode(sealing.update(plain + bytes([padding]) * padding) + sealing.finalize()).decode()
