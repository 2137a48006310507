"""Colours and names that distinguish a simulated world's topics in pictures.

A topic of the world is a pattern of signs without meaning, and "topic 21" tells a reader nothing.
The names are labels only, assigned by the topic's number; the dynamics do not depend on them.
"""

import colorsys

Colour = tuple[int, int, int]
INK: Colour = (28, 32, 40)
PAPER: Colour = (250, 249, 246)
GREY: Colour = (122, 128, 138)
FAINT: Colour = (226, 227, 230)
GOOD: Colour = (46, 148, 96)
FAIR: Colour = (232, 172, 60)
BAD: Colour = (208, 72, 72)

TOPIC_NAMES = (
    *("cooking", "dance", "football", "beauty", "comedy", "pets", "travel", "gaming"),
    *("music", "fitness", "cars", "science", "fashion", "news", "gardening", "history"),
    *("movies", "crafts", "finance", "running", "baking", "languages", "cycling", "magic"),
    *("nature", "parenting", "gadgets", "painting", "basketball", "street food", "yoga", "space"),
)

_HUES, _GOLDEN = 16, 7


def topic_colour(topic: int) -> Colour:
    """Return the colour of a topic: 16 hues, each light and dark, neighbours far apart.

    >>> len({topic_colour(topic) for topic in range(32)})
    32
    """
    hue = (topic * _GOLDEN) % _HUES / _HUES
    lightness, saturation = (0.56, 0.62) if topic < _HUES else (0.40, 0.50)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def mix_colours(one: Colour, other: Colour, share: float) -> Colour:
    """Return a colour between two, with `share` of the second.

    >>> mix_colours((0, 0, 0), (200, 100, 50), 0.5)
    (100, 50, 25)
    """
    red, green, blue = (
        round((1.0 - share) * a + share * b) for a, b in zip(one, other, strict=True)
    )
    return red, green, blue
