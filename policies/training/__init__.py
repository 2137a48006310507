"""Training for retention: networks, settings, worlds to train in, and the export of a ranker."""
