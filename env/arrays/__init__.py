"""Arrays that grow, sets of indices, draws from keyed hashes, and checks of ranges."""
