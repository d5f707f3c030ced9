"""Telling the time to look: APScheduler as a ticker in this process."""

from adapters.scheduler.ticker import ApTicker

__all__ = ["ApTicker"]
