"""Documents as pydantic models: for the schema. What they may hold is checked by the ledger."""
