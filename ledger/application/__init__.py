"""Use cases: the sequencer, prices, import, read models' runner, verify, explain."""
