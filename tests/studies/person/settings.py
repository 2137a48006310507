"""The settings that switch following off, so that both are measured in one command."""

from serve.config import Config


def without_following(config: Config) -> Config:
    """Return the settings of a feed that does not follow a person."""
    return config
