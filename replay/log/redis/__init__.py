"""The event log on Redis."""
