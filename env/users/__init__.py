"""A user's state: profile, interests, open cards and history, as a fold of the log."""
