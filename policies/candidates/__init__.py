"""Candidates of a page: retrieval sources, filters, eligibility and markets."""
