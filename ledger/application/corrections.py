"""Corrections that people make of single usage events; senders' own come as events."""

from __future__ import annotations

from ledger.application.engine import Ledger
from ledger.domain.commands import Outcome
from ledger.domain.usage import AdjustUsage, VoidUsage


class Corrections:
    """Takes usage back, or replaces its quantities; repeating one is a ``duplicate``.

    Args:
        ledger: records them.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def void(self, command: VoidUsage) -> Outcome:
        """Take a usage event back."""
        [outcome] = self._ledger.run([command])
        return outcome

    def adjust(self, command: AdjustUsage) -> Outcome:
        """Replace a usage event's quantities."""
        [outcome] = self._ledger.run([command])
        return outcome
