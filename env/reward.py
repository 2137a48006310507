"""One versioned function from the Feedback of one Decision to a float, the same everywhere.

The simulator, the online learner and replay call the same `Reward`, so a policy is trained on
what it is judged by. The default is a weighted sum of events, linear so that a world with known
probabilities knows its expectation exactly. Watching counts through KuaiRand's two thresholds
(Gao et al., CIKM 2022): a valid play is a view to the end of a video of 7 s or less, else more
than 7 s; a long view is one to the end of a video of 18 s or less, else 18 s or more.

Rejected: raw watch seconds, which favour long videos whatever is in them (Zhan et al., KDD 2022,
"Deconfounding Duration Bias in Watch-time Prediction").
"""

import msgspec

from env.vocabulary import Feedback

REWARD_VERSION = 1

VALID_PLAY_S = 7.0

LONG_VIEW_S = 18.0


class Reward(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the events; `version` changes whenever the formula does."""

    valid_play: float = 0.5
    long_view: float = 0.5
    like: float = 0.5
    comment: float = 0.5
    share: float = 1.0
    follow: float = 1.0
    product_click: float = 0.5
    not_interested: float = -1.0
    version: int = REWARD_VERSION

    def of(self, feedback: Feedback, duration_s: float) -> float:
        """Return the reward of what a user did about a card.

        Args:
            feedback: of one decision that was seen.
            duration_s: length of the item; 0 where unknown.

        >>> Reward().of(Feedback(seen=True, left=True, dwell_s=9.0, like=True), 30.0)
        1.0
        """
        return (
            self.valid_play * is_valid_play(feedback.dwell_s, duration_s)
            + self.long_view * is_long_view(feedback.dwell_s, duration_s)
            + self.like * feedback.like
            + self.comment * feedback.comment
            + self.share * feedback.share
            + self.follow * feedback.follow
            + self.product_click * feedback.product_click
            + self.not_interested * feedback.not_interested
        )

    def low(self) -> float:
        """Return the least reward that a card can bring."""
        return sum(min(w, 0.0) for w in self._weights())

    def high(self) -> float:
        """Return the greatest reward that a card can bring."""
        return sum(max(w, 0.0) for w in self._weights())

    def _weights(self) -> tuple[float, ...]:
        return (
            self.valid_play,
            self.long_view,
            self.like,
            self.comment,
            self.share,
            self.follow,
            self.product_click,
            self.not_interested,
        )


def is_valid_play(dwell_s: float, duration_s: float) -> bool:
    """Return whether a view counts as played; duration 0 means unknown.

    >>> is_valid_play(5.0, 5.0), is_valid_play(7.0, 60.0), is_valid_play(7.1, 60.0)
    (True, False, True)
    """
    if 0.0 < duration_s <= VALID_PLAY_S:
        return dwell_s >= duration_s
    return dwell_s > VALID_PLAY_S


def is_long_view(dwell_s: float, duration_s: float) -> bool:
    """Return whether a view counts as long; duration 0 means unknown.

    >>> is_long_view(12.0, 12.0), is_long_view(17.9, 60.0), is_long_view(18.0, 60.0)
    (True, False, True)
    """
    if 0.0 < duration_s <= LONG_VIEW_S:
        return dwell_s >= duration_s
    return dwell_s >= LONG_VIEW_S


def is_censored(feedback: Feedback, duration_s: float) -> bool:
    """Return whether the dwell is unknown: the end was never reported and it was not long yet.

    A censored card is left out of learning and estimation; it is no negative.
    """
    return not feedback.left and not is_long_view(feedback.dwell_s, duration_s)
