"""Training for whether people come back, with RLlib and torch: nothing here is ever served."""
