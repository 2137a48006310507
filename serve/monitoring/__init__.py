"""Heartbeats of processes, metrics, and the status of the whole server."""
