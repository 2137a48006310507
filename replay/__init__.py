"""Evidence from the log: the join, datasets and off-policy estimators; imports only env."""
