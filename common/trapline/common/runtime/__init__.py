"""From a handler, a fold or a sink to a daemon: leases, acks, snapshots, signals, heartbeats, health, dead letters."""
