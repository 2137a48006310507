"""Who is who: first places of people, so that nobody who is measured was trained with.

A person is a place and a life; a training by PPO takes places below 2^31.
"""

TUNED, JUDGED, SEARCHED = 2**33, 2**34, 2**35
"""By whom a searched ranker comes about: whom a bandit learns from, who judges on the way."""
TRIED = 2**36
"""By whom settings are chosen."""
HELD_OUT = 2**40
"""From here on people are only measured; nothing is trained or chosen by them."""
LIMITED = 2**41
"""Of these, those by whom limits are judged."""
