"""What all tests share: databases, and how much Hypothesis tries."""

from __future__ import annotations

import hypothesis

pytest_plugins = ["fixtures_postgres"]

# Shared machines stall now and then; a deadline would fail tests for it.
hypothesis.settings.register_profile("tallybook", deadline=None, max_examples=100)
hypothesis.settings.load_profile("tallybook")
