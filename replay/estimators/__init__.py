"""Off-policy estimators of decisions, slates and trajectories, with their intervals."""
