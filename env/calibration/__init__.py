"""Fits of the simulated world to a log of real users, and checks of how well it fits."""
