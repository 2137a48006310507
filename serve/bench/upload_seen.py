"""Time from an upload until it can be on a page, found by a user's interest."""

from collections.abc import Callable, Sequence

import numpy as np

from env.content import static_block
from env.records import ItemRecord, pack_halves
from env.scenes import observe
from env.users import UserState, live_session
from env.vocabulary import Item, ItemId, SessionId
from policies import retrieval
from policies.known import Known
from policies.matches import interests_of
from serve.bench.recall import ALONE, N_BEST
from serve.pipeline import Pipeline

N_UPLOADS = 20


def measure_uploads(
    pipeline: Pipeline,
    states: Sequence[UserState],
    now_ms: int,
    clock_ns: Callable[[], int],
) -> float:
    """Return the longest time, in seconds, from an upload to its being a candidate.

    Each upload has the vector of one user's current interest and is looked for by the session's
    interest alone, so neither freshness nor the delivery guarantee brings it onto the page.

    Args:
        pipeline: the upload is put into its catalogue.
        now_ms: time of the requests.

    Raises:
        RuntimeError: the first page after an upload lacks it, or no user is in a session.
    """
    longest_ns = 0
    for k, state in enumerate(states[:N_UPLOADS]):
        scene = observe(state, live_session(state, now_ms) or SessionId("s"), now_ms)
        catalogue, served = pipeline.catalogue, pipeline.served.states
        interests = interests_of(state, scene, catalogue, served.aligned(catalogue))
        if "session_interest" not in interests:
            continue
        likes = tuple(np.asarray(interests["session_interest"], dtype=np.float64).tolist())
        item = Item(ItemId(f"upload-{k}"), vector=likes, country=scene.country)
        record = ItemRecord(item.item_id, now_ms, item, pack_halves(static_block(item)))
        began_ns = clock_ns()
        catalogue.apply(record)
        known = Known.of(state, catalogue, now_ms)
        allowed = pipeline.eligible(pipeline.served, state, scene, known, 1).allowed
        found = retrieval.retrieve(
            state,
            scene,
            catalogue,
            served,
            known,
            allowed,
            N_BEST,
            k,
            shares=ALONE["session_interest"],
            nearest=pipeline.nearest,
        )
        longest_ns = max(longest_ns, clock_ns() - began_ns)
        if catalogue.index_of(item.item_id) not in found.index:
            raise RuntimeError(f"expected {item.item_id} among what suits best, it is not there")
    if not longest_ns:
        raise RuntimeError("expected people in sessions, found nobody who has swiped in one")
    return longest_ns / 1e9
