"""Projections: pure folds from ledger entries to read models."""
