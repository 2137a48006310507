"""Registers the environments with Gymnasium, on import: the one thing here that an import does.

Gymnasium 1 knows no plugins any more and imports the module that stands before an id, so

    gymnasium.make("env.registration:nextswipe/Swipe-v0")

works in a program, or a worker of one, that imports nothing of ours. After `import
env.registration`, `"nextswipe/Swipe-v0"` alone does. Nothing else is imported here; the
environments are when they are made.

Rejected: the entry point group `gymnasium.envs`, which Gymnasium read up to version 0.29.
"""

from gymnasium.envs.registration import register, registry

ENVS = {
    "nextswipe/Swipe-v0": ("env.swipe:SwipeEnv", "env.vector:SwipeVectorEnv"),
    "nextswipe/MiniSwipe-v0": (
        "env.miniswipe:MiniSwipeEnv",
        "env.miniswipe_vector:MiniSwipeVectorEnv",
    ),
}
"""Entry point and vector entry point by id; episodes end by themselves, none has a time limit."""


def register_envs() -> None:
    """Register what is not registered yet."""
    for env_id, (entry_point, vector_entry_point) in ENVS.items():
        if env_id not in registry:
            register(env_id, entry_point=entry_point, vector_entry_point=vector_entry_point)


register_envs()
