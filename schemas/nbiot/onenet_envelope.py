"""OneNET's envelope: `msg`, or `enc_msg` in AES, with a nonce and a signature.

Both are as in the platform's own receiver (github.com/cm-heclouds/data-push, Util.java): the
signature is MD5 over token, nonce and the text of `msg` as it was sent. MD5 is the platform's
choice; who must be sure of the sender uses TLS as well.
"""

import binascii
import hmac
from base64 import b64decode, b64encode
from hashlib import md5
from typing import Any

import msgspec

from schemas.payload import Unreadable, load_json, shown
from schemas.rejection import Reason

_SALT_BYTES, _LENGTH_BYTES, _BLOCK_BYTES = 16, 4, 16
"""Before the text stand random bytes and its length, big-endian; after it the padding."""


class _Sent(msgspec.Struct):
    msg: msgspec.Raw


def signed(token: str, nonce: str, text: str, signature: str) -> bool:
    """Whether `signature` is that of `text`; also for the check of a push address.

    A + that came through a query as a blank is taken as +.
    """
    digest = md5((token + nonce + text).encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return hmac.compare_digest(
        b64encode(digest), signature.replace(" ", "+").encode("utf-8", "surrogatepass")
    )


def sent(push: dict[str, Any]) -> Any:
    """What the envelope holds as it was sent: a text, or JSON; the push itself where there is no envelope.

    It is the same when the platform pushes again, under another nonce.
    """
    return next((push[name] for name in ("enc_msg", "msg") if push.get(name) is not None), push)


def content(push: dict[str, Any], payload: bytes, token: str, aes_key: str) -> Any:
    """What is in the envelope `push`, which is `payload` decoded; raises `Unreadable`."""
    sealed, msg = push.get("enc_msg"), push.get("msg")
    if sealed is None and msg is None:
        _check(push, None, token)
        return push
    text = sealed if sealed is not None else msg
    if not isinstance(text, str):
        if sealed is not None:
            raise _sealed_wrong(f"is {shown(sealed)}, not text")
        if not token:
            return msg
        text = _as_sent(payload)
    _check(push, text, token)
    return load_json(
        decrypted(text, aes_key) if sealed is not None else text.encode("utf-8", "surrogatepass")
    )


def _check(push: dict[str, Any], text: str | None, token: str) -> None:
    """Raises `Unreadable` (not_authorized) where a token is set and the signature isn't the text's."""
    if not token:
        return
    nonce, signature = push.get("nonce"), push.get("msg_signature", push.get("signature"))
    if text is None or not isinstance(nonce, str) or not isinstance(signature, str):
        raise Unreadable(Reason.NOT_AUTHORIZED, "the push carries no signature",
                         "the service has GANZHI_ONENET_TOKEN set: send envelope, nonce and signature")  # fmt: skip
    if not signed(token, nonce, text, signature):
        raise Unreadable(Reason.NOT_AUTHORIZED, "the signature is not that of nonce and msg",
                         "GANZHI_ONENET_TOKEN must be the token of the platform's push configuration")  # fmt: skip


def _as_sent(payload: bytes) -> str:
    """The text of `msg`, an object, byte for byte: the signature is over it, whatever its order and blanks."""
    try:
        return bytes(msgspec.json.decode(payload, type=_Sent).msg).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        detail = "msg can't be taken out as it was sent, to check its signature"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "send strict JSON (RFC 8259)") from None


def decrypted(text: str, aes_key: str) -> bytes:
    """The content of `enc_msg`: AES-256-CBC, the first half of the key is the IV. Raises `Unreadable`."""
    if not aes_key:
        raise Unreadable(Reason.NOT_AUTHORIZED, "the push is encrypted and no key is set",
                         "set GANZHI_ONENET_AES_KEY to the key of the platform's push configuration")  # fmt: skip
    try:
        key, sealed = b64decode(aes_key + "="), b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise _sealed_wrong("is not base64") from None
    if not sealed or len(sealed) % _BLOCK_BYTES:
        raise _sealed_wrong(f"has {len(sealed)} bytes, not whole blocks of {_BLOCK_BYTES}")
    opened = _aes(key, sealed)
    begin = _SALT_BYTES + _LENGTH_BYTES
    length = int.from_bytes(opened[_SALT_BYTES:begin], "big")
    if len(opened) < begin or not length <= len(opened) - begin:
        raise Unreadable(Reason.NOT_AUTHORIZED, "enc_msg does not open with the key that is set",
                         "GANZHI_ONENET_AES_KEY must be the key of the platform's push configuration")  # fmt: skip
    return opened[begin : begin + length]


def _aes(key: bytes, sealed: bytes) -> bytes:
    # imported here, because few sites encrypt and the library costs every start 30 ms
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    opening = Cipher(algorithms.AES(key), modes.CBC(key[:_BLOCK_BYTES])).decryptor()
    return opening.update(sealed) + opening.finalize()


def _sealed_wrong(what: str) -> Unreadable:
    return Unreadable(Reason.MALFORMED_PAYLOAD, f"enc_msg {what}", "send the platform's push unchanged")
