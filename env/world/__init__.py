"""The simulated world: users, moods, answers, returns, and the supply of items."""
