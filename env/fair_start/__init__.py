"""Delivery guarantees of new uploads: audiences, rollout stages, traffic guards and budgets."""
