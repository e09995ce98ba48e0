"""What travels between services and what is stored: the single source of every message and table."""
