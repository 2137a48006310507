"""Policies of one's own: loaded by name, checked against the laws, guarded while they serve."""
