"""The file in which a ledger's signing key lives, made when something is first signed."""

from __future__ import annotations

from pathlib import Path

from adapters.signing.ed25519 import Ed25519Signer, Ed25519Verifier, load, load_or_create, verifier
from ledger.domain.errors import Unavailable

FOLDER_MODE = 0o700


class KeyFile:
    """A signing key by the place of its file; nothing is read or made before it is needed.

    Args:
        path: of the file. Its folder is made, mode 0700, with the key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def signer(self) -> Ed25519Signer:
        """Return what signs; makes the key if there is none.

        Raises:
            Refused: ``key_exposed``, ``key_malformed``.
            Unavailable: ``key_unavailable``.
        """
        try:
            self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"the folder of the signing key {self.path} cannot be made: {error}",
                code="key_unavailable",
            ) from error
        return load_or_create(self.path)

    def public_key(self) -> bytes | None:
        """Return the public key; None where there is no key yet.

        Raises:
            Refused: ``key_exposed``, ``key_malformed``.
            Unavailable: ``key_unavailable``.
        """
        signer = load(self.path)
        return None if signer is None else signer.public_key

    def verifier(self, public_key: bytes) -> Ed25519Verifier:
        """Return what verifies signatures of a public key.

        Raises:
            InvalidInput: ``invalid_public_key``.
        """
        return verifier(public_key)
