"""JSON documents that every interface answers alike, one module a noun.

Amounts and quantities in them are text, times are RFC 3339 in UTC; `encoding` writes them.
"""
