"""Pictures and films of a swiping session in the simulated world."""
