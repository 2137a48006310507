"""Figures and stories of simulated users' sessions for reports."""
