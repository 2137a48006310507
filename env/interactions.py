"""Conversion of a page's decision to an `Interaction`, for simulations and estimators.

The join builds its own from the log's records, whose bytes it passes on unchanged.
"""

from env.records import pack_halves
from env.vocabulary import Decision, Feedback, Interaction, Page

_SEEN = Feedback(seen=True, left=True)


def interaction_of(
    page: Page, decision: Decision, reward: float, *, n_actions: int | None = None
) -> Interaction:
    """Return a decision of a page with its reward; the card counts as seen and left.

    Args:
        page: holds the decision.
        decision: of that page.
        reward: of the decision.
        n_actions: candidates left to choose from; all of the page's if None.
    """
    context, features = page.context, page.context.features
    return Interaction(
        decision_id=decision.decision_id,
        page_id=context.page_id,
        user=context.user,
        session=context.session,
        item_id=decision.item_id,
        slot=decision.slot,
        policy=decision.policy,
        propensity=decision.propensity,
        n_actions=len(context) if n_actions is None else n_actions,
        shared=pack_halves(features.shared),
        action=pack_halves(features.actions[decision.action]),
        item_key=int(features.keys[decision.action]),
        duration_s=0.0,
        feedback=_SEEN,
        reward=reward,
        scene=context.scene,
        closed_ms=0,
    )
