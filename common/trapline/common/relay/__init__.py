"""One small process per host that serves the host's journals to everyone, near or far."""
