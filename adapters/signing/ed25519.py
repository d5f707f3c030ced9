"""Ed25519 (RFC 8032): the ledger's signing key in a file, and public keys that verify.

A key file holds an unencrypted PKCS #8 key as PEM and is for its owner's eyes alone; a file that
group or world may read is not used, because whoever read it can sign leases.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ledger.domain.errors import InvalidInput, Refused, Unavailable

PUBLIC_KEY_BYTES = 32
MAX_FILE_BYTES = 16_384


class Ed25519Verifier:
    """A public key of a ledger.

    Args:
        key: the public key.
    """

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.public_key: bytes = key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the key's owner signed the message; a signature of any length is data."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Ed25519Signer:
    """A private key of a ledger; its text form never shows the key.

    Args:
        key: the private key.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key: bytes = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes; the same message has the same one."""
        return self._key.sign(message)


def verifier(public_key: bytes) -> Ed25519Verifier:
    """Return what verifies signatures of a public key of 32 bytes.

    Raises:
        InvalidInput: ``invalid_public_key``.
    """
    try:
        return Ed25519Verifier(Ed25519PublicKey.from_public_bytes(public_key))
    except (ValueError, TypeError):
        raise InvalidInput(
            f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes", code="invalid_public_key"
        ) from None


def load_or_create(path: Path) -> Ed25519Signer:
    """Return the signing key of a file; makes the file, mode 0600, if there is none.

    Two processes that make it at once end with one key: the second takes the first's.

    Args:
        path: its folder exists.

    Raises:
        Refused: ``key_exposed`` if group or world may touch the file; ``key_malformed`` if it
            holds no Ed25519 key.
        Unavailable: ``key_unavailable`` if it cannot be read or made.
    """
    try:
        try:
            return _load(path)
        except FileNotFoundError:
            _create(path)
            return _load(path)
    except OSError as error:
        raise _unavailable(path, error) from error


def load(path: Path) -> Ed25519Signer | None:
    """Return the signing key of a file; None if there is no such file.

    Raises:
        Refused: as `load_or_create`.
        Unavailable: as `load_or_create`.
    """
    try:
        return _load(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unavailable(path, error) from error


def _unavailable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"the signing key {path} cannot be used: {error}", code="key_unavailable")


def _load(path: Path) -> Ed25519Signer:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        # Of the open file, not of the path, which may be another file by then.
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise Refused(
                f"the signing key {path} has mode {stat.S_IMODE(mode):04o}; others may touch it;"
                " make it 0600, or a new key if it was read",
                code="key_exposed",
            )
        body = file.read(MAX_FILE_BYTES)
    try:
        key = load_pem_private_key(body, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Refused(
            f"{path} holds no unencrypted Ed25519 key as PEM (PKCS #8)", code="key_malformed"
        )
    return Ed25519Signer(key)


def _create(path: Path) -> None:
    """Make a key file that is whole as soon as it has its name."""
    body = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, never takes the place of a key that is there already.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
