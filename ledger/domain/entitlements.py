"""Entitlements: which providers, models, meters, plugins and tools a tenant may use at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from ledger.domain.patterns import matches

KINDS = ("providers", "models", "meters", "plugins", "tools")


class Entitlements(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a tenant may use; a kind that has no list (None) follows the default.

    Attributes:
        default: of kinds without a list.
        providers: patterns; ``*`` at the end matches any rest.
        models: likewise.
        meters: likewise.
        plugins: likewise.
        tools: likewise.
    """

    default: Literal["allow", "deny"] = "allow"
    providers: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    meters: tuple[str, ...] | None = None
    plugins: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None

    def missing(
        self,
        *,
        provider: str,
        model: str,
        meters: Sequence[str],
        plugin: str,
        tools: Sequence[str],
    ) -> list[str]:
        """Return what an ask needs and has not, as ``kind:name`` each, in the order of `KINDS`."""
        needed: dict[str, Sequence[str]] = {
            "providers": [provider] if provider else [],
            "models": [model] if model else [],
            "meters": meters,
            "plugins": [plugin] if plugin else [],
            "tools": tools,
        }
        return [
            f"{kind[:-1]}:{name}"
            for kind in KINDS
            for name in needed[kind]
            if not self._has(kind, name)
        ]

    def _has(self, kind: str, name: str) -> bool:
        listed: tuple[str, ...] | None = getattr(self, kind)
        return self.default == "allow" if listed is None else matches(listed, name)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entitlements)


def entitlements_body(entitlements: Entitlements) -> bytes:
    """Return the stored form."""
    return _encoder.encode(entitlements)


def entitlements_of(body: bytes) -> Entitlements:
    """Return the entitlements of a stored form; b"" allows everything."""
    return _decoder.decode(body) if body else Entitlements()
