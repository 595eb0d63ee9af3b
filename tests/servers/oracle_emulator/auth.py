"""O5LOGON, the password exchange, from the server's side.

The client proves that it knows the password; the server answers with a text
encrypted under the same session key, which proves that it knows it as well.
"""

from __future__ import annotations

import hashlib
import secrets

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

VERIFIER_12C = 0x4815
#: Real servers use 4096 and 3.  Few rounds keep a test suite's logons cheap.
DERIVATION_ROUNDS, SESSION_ROUNDS = 64, 3


def _aes(key: bytes) -> Cipher[modes.CBC]:
    return Cipher(algorithms.AES(key), modes.CBC(bytes(16)))


def _encrypt(key: bytes, data: bytes) -> bytes:
    encryptor = _aes(key).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _decrypt(key: bytes, data: bytes) -> bytes:
    decryptor = _aes(key).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _hex(data: bytes) -> str:
    return data.hex().upper()


class Challenge:
    """The server's half of one logon."""

    def __init__(self, password: str) -> None:
        self._password = password
        self._salt = secrets.token_bytes(16)
        self._session_salt = secrets.token_bytes(16)
        self._half_key = secrets.token_bytes(32)
        speedy_salt = self._salt + b"AUTH_PBKDF2_SPEEDY_KEY"
        derived = hashlib.pbkdf2_hmac(
            "sha512", password.encode(), speedy_salt, DERIVATION_ROUNDS, 64
        )
        self._hash = hashlib.sha512(derived + self._salt).digest()[:32]
        self._session_key = b""  # known when the client has sent its half

    def parameters(self) -> list[tuple[str, str, int]]:
        """Key, value and flags of the answer to the first message."""
        return [
            ("AUTH_SESSKEY", _hex(_encrypt(self._hash, self._half_key)), 0),
            ("AUTH_VFR_DATA", _hex(self._salt), VERIFIER_12C),
            ("AUTH_PBKDF2_CSK_SALT", _hex(self._session_salt), 0),
            ("AUTH_PBKDF2_VGEN_COUNT", str(DERIVATION_ROUNDS), 0),
            ("AUTH_PBKDF2_SDER_COUNT", str(SESSION_ROUNDS), 0),
        ]

    def verify(self, client: dict[str, str]) -> bool:
        """Check the second message's session key and password."""
        try:
            other = _decrypt(self._hash, bytes.fromhex(client["AUTH_SESSKEY"]))
            mixed = _hex(other[:32] + self._half_key).encode()
            self._session_key = hashlib.pbkdf2_hmac(
                "sha512", mixed, self._session_salt, SESSION_ROUNDS, 32
            )
            plain = _decrypt(self._session_key, bytes.fromhex(client["AUTH_PASSWORD"]))
        except (KeyError, ValueError):
            return False
        padding = plain[-1]
        return plain[16:-padding] == self._password.encode()

    def proof(self) -> str:
        """AUTH_SVR_RESPONSE, which the client decrypts and compares."""
        text = secrets.token_bytes(16) + b"SERVER_TO_CLIENT" + b"\x10" * 16
        return _hex(_encrypt(self._session_key, text))
