"""How much of the best matches a pipeline's retrieval finds: against all items, looked at exactly.

A found item counts if it matches as well as the last of the best, so which of equals is found does
not matter.
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
"""Shares of one source and nothing else."""


def measure_recall(
    pipeline: Pipeline, states: Sequence[UserState], seed: int, now_ms: int
) -> dict[str, float]:
    """Return the mean part of the `N_BEST` matches that is found, by the interest's source.

    Args:
        pipeline: its index is measured.
        states: of the people that are asked for; whoever has no such interest does not count.
        seed: of the choices among equals.
        now_ms: the time of the requests.
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
