"""Recall of a pipeline's retrieval, compared with an exact search over all items.

A found item counts if it matches at least as well as the last of the best, so ties do not matter.
"""

from collections.abc import Sequence

import numpy as np

from env.scenes import observe
from env.users import UserState, live_session
from env.vocabulary import Floats, Ints, Scene, SessionId
from policies import retrieval
from policies.known import Known
from policies.matches import MATCH_STEP, interests_of, matches_of
from policies.nearest import Nearest
from policies.retrieval import Shares
from serve.pipeline import Pipeline

N_BEST = 200
ALONE = {
    source: Shares(**{name: float(name == source) for name in Shares.__struct_fields__})
    for source in ("long_interest", "session_interest")
}
"""Shares that use one source only."""


def measure_recall(
    pipeline: Pipeline, states: Sequence[UserState], seed: int, now_ms: int
) -> dict[str, float]:
    """Return the mean share of the `N_BEST` best matches that is found, by source of interest.

    Args:
        pipeline: its index is measured.
        states: user states; those without such an interest are skipped.
        seed: seed of the choices among ties.
        now_ms: time of the requests.
    """
    found: dict[str, list[float]] = {source: [] for source in ALONE}
    for k, state in enumerate(states):
        scene = observe(state, live_session(state, now_ms) or SessionId("s"), now_ms)
        catalogue = pipeline.catalogue
        items = pipeline.served.states.aligned(catalogue)
        for source, interest in interests_of(state, scene, catalogue, items).items():
            matches = matches_of(source, interest, catalogue.vectors, items.reward_mean)
            steps = np.rint(matches / MATCH_STEP)
            exact, some = (
                _retrieve(pipeline, state, scene, source, nearest, seed + k)
                for nearest in (None, pipeline.nearest)
            )
            if len(exact):
                found[source].append(_part(steps, exact, some))
    return {source: float(np.mean(parts)) for source, parts in found.items() if parts}


def _retrieve(
    pipeline: Pipeline,
    state: UserState,
    scene: Scene,
    source: str,
    nearest: Nearest | None,
    seed: int,
) -> Ints:
    catalogue = pipeline.catalogue
    known = Known.of(state, catalogue, scene.at_ms)
    allowed = pipeline.eligible(pipeline.served, state, scene, known, 1).allowed
    states, shares = pipeline.served.states, ALONE[source]
    return retrieval.retrieve(
        state,
        scene,
        catalogue,
        states,
        known,
        allowed,
        N_BEST,
        seed,
        shares=shares,
        nearest=nearest,
    ).index


def _part(steps: Floats, exact: Ints, some: Ints) -> float:
    return float(np.count_nonzero(steps[some] >= steps[exact].min()) / len(exact))
