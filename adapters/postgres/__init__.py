"""PostgreSQL: the log, the state rows, the read models and the embedded server."""
