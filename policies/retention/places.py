"""First indices of simulated users, so that no measured user was trained with.

A simulated user is an index and a life; PPO trainings use indices below 2^31.
"""

TUNED, JUDGED, SEARCHED = 2**33, 2**34, 2**35
"""Ranges of a searched ranker: users of the bandit's fits, of the comparison of fits, and of the
search."""
TRIED = 2**36
"""Users by whom settings are chosen."""
HELD_OUT = 2**40
"""From here on users are only for measurement; nothing is trained or chosen by them."""
LIMITED = 2**41
"""Held-out users by whom constraints are measured."""
