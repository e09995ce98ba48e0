"""A whole mesh on one machine: child processes, started, restarted, drained and shown."""
