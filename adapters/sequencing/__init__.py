"""The sequencer in a process of its own, and the queue by which others reach it."""

from adapters.sequencing.client import RemoteSequencer
from adapters.sequencing.process import SequencerProcess

__all__ = ["RemoteSequencer", "SequencerProcess"]
