"""The benchmark of learning from a log, at a size that shows that it runs, not how good it is."""

from itertools import count

import numpy as np
import pytest

from env.pages.lives import LifeReward
from policies.training.offline.settings import OfflineArgs
from replay.evaluate.gates import Gates
from serve.jobs.train_offline import OfflineGate
from tests.studies.retention.offline import OfflineSize, compare, live, mediocre, run_offline
from tests.studies.retention.offline_world import PagePolicy, WorldArgs, play

pytestmark = pytest.mark.filterwarnings("ignore")  # RLlib's own, of which there are many


def test_each_method_is_judged_and_what_goes_the_other_way_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    args = OfflineArgs(prior_passes=1, critic_passes=1, policy_passes=1, hidden=8, embed=4)
    gate = OfflineGate(Gates(min_users=2, min_ess=1.0))
    ticks = count()
    result = run_offline(
        OfflineSize(cards=3_000, users=6, worse=3, generations=0),
        methods=("bc", "iql"),
        args=args,
        clock_s=lambda: float(next(ticks)),
        gate=gate,
    )
    assert [row.method for row in result.methods] == ["bc", "iql"]
    assert 2_000 < result.cards < 5_000
    assert result.sessions > 0.3 * result.lives
    for row in result.methods:
        assert (row.played is None) == bool(row.refusals)
    if result.worse is not None:
        assert result.worse.judged == 3


def test_the_logged_probabilities_are_those_that_cards_were_drawn_with() -> None:
    world = WorldArgs(users=200, days=3, candidates=6, page=3)
    policy = mediocre(1)
    drawn = list(play(world, policy, 5))
    first = np.concatenate([turned.propensity[:, 0] for turned in drawn])
    # 1 / p of a draw has mean 6, the number of candidates, whatever the policy is
    z = ((1.0 / first).mean() - 6.0) / ((1.0 / first).std() / np.sqrt(len(first)))
    assert abs(z) < 4.0
    cards = np.concatenate([turned.action for turned in drawn])
    assert all(len(set(page)) == 3 for page in cards.tolist())


def test_a_policy_beside_itself_gains_nothing_at_all() -> None:
    world = WorldArgs(users=8, days=4, candidates=6, page=3)
    uniform = PagePolicy("uniform", lambda user, rows: np.zeros(rows.shape[:2]))
    one, other = (live(world, uniform, 3, LifeReward()) for _ in range(2))
    result = compare("uniform", one, other)
    assert (result.session_gain.value, result.session_gain.se) == (0.0, 0.0)
    assert result.days_gain.value == 0.0
    assert result.active_days >= 1.0
