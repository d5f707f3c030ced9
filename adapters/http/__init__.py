"""The HTTP API: the use cases for gateways, for finance and support, and for operators."""
