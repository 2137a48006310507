"""MiniSwipe, the small world that is solved exactly, and the checks of policies against it."""
