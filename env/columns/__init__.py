"""The feature schema: names, dimensions and scales of the columns that all policies read."""
