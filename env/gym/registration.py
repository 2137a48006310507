"""Registers the environments with Gymnasium when it is imported.

Gymnasium 1 has no plugins and imports the module that stands before an id, so
`gymnasium.make("env.gym.registration:nextswipe/Swipe-v0")` works in any program or worker. After
`import env.gym.registration`, `"nextswipe/Swipe-v0"` alone works too. The environments' modules are
imported when one is made. The entry point group `gymnasium.envs` was rejected: Gymnasium read it
only up to version 0.29.
"""

from gymnasium.envs.registration import register, registry

ENVS = {
    "nextswipe/Swipe-v0": ("env.gym.swipe:SwipeEnv", "env.gym.vector:SwipeVectorEnv"),
    "nextswipe/MiniSwipe-v0": (
        "env.twin.env:MiniSwipeEnv",
        "env.twin.env:MiniSwipeVectorEnv",
    ),
}
"""Entry point and vector entry point by id; episodes end by themselves, without a time limit."""


def register_envs() -> None:
    """Register the environments that are not registered yet."""
    for env_id, (entry_point, vector_entry_point) in ENVS.items():
        if env_id not in registry:
            register(env_id, entry_point=entry_point, vector_entry_point=vector_entry_point)


register_envs()
