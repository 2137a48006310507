"""The hybrid bandit: Vowpal Wabbit with posteriors of items and of main effects."""
