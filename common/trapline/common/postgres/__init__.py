"""PostgreSQL: a private server where none is given, its schema, and the one way to a connection."""
