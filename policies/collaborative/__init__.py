"""Learning from co-play: the window of answers, and the fit of item factors to it."""
