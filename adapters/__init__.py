"""The outside world: one package per thing that the ledger talks to."""
