"""The audit: delivery guarantees, exposure and breakout, counted from the log."""
