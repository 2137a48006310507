"""Training by RLlib's PPO, with a critic of a survival model and constraints."""
