"""Signatures of the ledger: Ed25519 keys in files."""

from adapters.signing.ed25519 import Ed25519Signer, Ed25519Verifier, load_or_create, verifier
from adapters.signing.key_file import KeyFile

__all__ = ["Ed25519Signer", "Ed25519Verifier", "KeyFile", "load_or_create", "verifier"]
