"""What all tests share: databases, and how much Hypothesis tries."""

from __future__ import annotations

import signal

import hypothesis

pytest_plugins = ["fixtures_postgres"]

# A shell lets what it runs in the background ignore Ctrl-C, and so would the servers of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Shared machines stall now and then; a deadline would fail tests for it. The same tree gives the
# same examples, so that a red run means that something changed; what is new is searched for with
# `scripts/test --hypothesis-profile=search tests/property`.
hypothesis.settings.register_profile("tallybook", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=500)
hypothesis.settings.load_profile("tallybook")
