"""Stores of log, users, catalogue and versions: SQLite and Redis."""
