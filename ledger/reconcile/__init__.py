"""Reconciliation with provider invoices; nothing is here yet."""
