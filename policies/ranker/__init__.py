"""The retention ranker's numpy forward pass, and its blend with the bandit."""
