"""The settings that switch following off, so that both are measured in one command."""

import msgspec

from serve.config import Config


def without_following(config: Config) -> Config:
    """Return the settings of a feed that does not follow a person."""
    sources = {**config.feed.sources, "topics": 0.0}
    feed = msgspec.structs.replace(config.feed, follow=0.0, sources=sources)
    return msgspec.structs.replace(config, feed=feed)
