"""The catalogue, its content columns and the statistics that the log gives of each item."""
