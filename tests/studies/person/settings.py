"""The settings that switch following off, so that both are measured in one command."""

import msgspec

from serve.config import Config


def without_following(config: Config) -> Config:
    """Return the settings of a feed that does not follow a person, as it was before."""
    sources = {**config.feed.sources, "topics": 0.0}
    feed = msgspec.structs.replace(
        config.feed, follow=0.0, sources=sources, topic_gap=2, newcomer_topic_gap=4
    )
    return msgspec.structs.replace(config, feed=feed)
