"""Training a ranker from the log alone: BC, MARWIL, IQL and CQL."""
