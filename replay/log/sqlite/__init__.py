"""The event log in a SQLite database."""
