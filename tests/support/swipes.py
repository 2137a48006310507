"""Small logs of swipes with a known content, for tests of what is counted of a log."""

import numpy as np

from env.calibration.impressions import DAY_MS, ImpressionTable
from env.vocabulary import Bools, Floats, Ints


def make_log(
    user: Ints,
    at_ms: Ints,
    play_s: Floats | None = None,
    *,
    item: Ints | None = None,
    duration_s: Floats | None = None,
    like: Bools | None = None,
) -> ImpressionTable:
    """Return impressions with these columns; nothing else happened."""
    n = len(user)
    never = np.zeros(n, dtype=np.bool_)
    return ImpressionTable(
        user=user,
        item=np.arange(n) if item is None else item,
        at_ms=at_ms,
        surface=np.zeros(n, dtype=np.int64),
        play_s=np.full(n, 10.0) if play_s is None else play_s,
        duration_s=np.full(n, 60.0) if duration_s is None else duration_s,
        like=never if like is None else like,
        comment=never,
        share=never,
        follow=never,
        not_interested=never,
    )


def visits(lengths: list[list[int]], days: list[list[int]]) -> ImpressionTable:
    """Return users' sessions of these many cards on these days, a card every 20 s."""
    user, at_ms = [], []
    for row_user, (cards, when) in enumerate(zip(lengths, days, strict=True)):
        for n, day in zip(cards, when, strict=True):
            user += [row_user] * n
            at_ms += [day * DAY_MS + 20_000 * k for k in range(n)]
    return make_log(np.array(user), np.array(at_ms))
