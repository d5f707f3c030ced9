"""Pages for people, made on the server from the schemas: no script, nothing from anywhere else."""
