"""Checks the charge models against a file of cases: parameters, quantities, expected amounts."""
