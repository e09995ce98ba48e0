"""How messages travel: ids, journal, relay, client, runtime, configuration, supervisor."""
