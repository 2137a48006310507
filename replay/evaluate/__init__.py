"""Counterfactual evaluation of policies on a log: targets, gates and diagnostics."""
