"""What the log can prove: the join, datasets and off-policy estimators; imports only env."""
