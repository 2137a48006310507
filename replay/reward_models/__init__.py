"""Reward models for direct and doubly robust estimates, cross-fitted."""
