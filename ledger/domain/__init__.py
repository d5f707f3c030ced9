"""The domain: values, entries, decide and evolve. Pure: no I/O, no clock, no randomness."""
