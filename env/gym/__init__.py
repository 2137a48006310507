"""Gymnasium environments over the simulated world, with observations and rollouts."""
