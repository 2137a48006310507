"""The event log: its line format and its order over shards."""
