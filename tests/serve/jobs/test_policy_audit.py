"""The audit of a policy in the simulated world: figures of known truth, and policies by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_rankers import random_ranker
from small_worlds import PRESET
from typer.testing import CliRunner

from env.gym.choosers import chooser
from env.gym.rollouts import Chooser
from env.gym.vector import SwipeVectorEnv
from env.vocabulary import Floats, Ints
from env.world.world import BAIT
from policies.ranker.ranker import Ranker
from serve.commands.main import app
from serve.errors import JobError
from serve.jobs.policy_audit import (
    PolicyAudit,
    audit_policy,
    entropy,
    find_chooser,
    open_world,
    ratio,
)

N, DAYS = 200, 6


@pytest.fixture(scope="module")
def env() -> SwipeVectorEnv:
    return open_world(PRESET, N, DAYS)


def world_ranker(env: SwipeVectorEnv, seed: int = 0) -> Ranker:
    screen = env.screen
    n_item = screen.items.shape[2] + screen.personal.shape[2]
    return random_ranker(seed, n_user=screen.user.shape[1], n_item=n_item)


def by_truth(env: SwipeVectorEnv, column: int | str) -> Chooser:
    """Return who shows the candidate of the highest bait, or of the lowest topic."""

    def choose(observation: Any) -> Ints:
        stock, rows = env.swiping.stock, env.swiping.candidates.rows
        worth: Floats = (
            -stock.topic[rows].astype(np.float64)
            if column == "topic"
            else stock.columns[int(column)][rows]
        )
        return np.asarray(worth.argmax(axis=1))

    return choose


def test_who_shows_bait_is_found_out(env: SwipeVectorEnv) -> None:
    uniform = audit_policy(env, "uniform", chooser("uniform", 0), 0)
    baiting = audit_policy(env, "baiting", by_truth(env, BAIT), 0)
    stock = env.swiping.stock
    assert uniform.bait.value == pytest.approx(float(stock.columns[BAIT].mean()), abs=0.02)
    assert baiting.bait.value > uniform.bait.value + 10 * baiting.bait.se
    assert baiting.bait_share.value > uniform.bait_share.value


def test_who_shows_one_topic_is_found_out(env: SwipeVectorEnv) -> None:
    uniform = audit_policy(env, "uniform", chooser("uniform", 0), 0)
    narrow = audit_policy(env, "narrow", by_truth(env, "topic"), 0)
    assert narrow.topic_entropy.value < uniform.topic_entropy.value - 10 * narrow.topic_entropy.se


def test_figures_are_those_of_a_plain_count(env: SwipeVectorEnv) -> None:
    audit = audit_policy(env, "first", lambda o: np.zeros(N, dtype=np.int64), 3)
    cards, active_days, night, minutes, disliked, tail = plainly_counted(3)
    assert cards == audit.cards
    assert active_days == pytest.approx(audit.active_days.value)
    assert night == pytest.approx(audit.night.value)
    assert minutes == pytest.approx(audit.visit_minutes)
    assert disliked == pytest.approx(audit.not_interested.value)
    assert tail == pytest.approx(audit.tail.value)


def plainly_counted(
    seed: int,
) -> tuple[int, float, float, tuple[float, ...], float, float]:
    """Count lives of who shows everybody their first candidate, user by user."""
    env = open_world(PRESET, N, DAYS)
    env.reset(seed=seed)
    lives, cards, visits, nights, dislikes, of_tail = set(range(N)), 0, 0, 0, 0.0, 0.0
    seconds, minutes = np.zeros(N), list[float]()
    while lives:
        hours = env.swiping.crowd.hour.copy()
        _, _, terminated, truncated, info = env.step(np.zeros(N, dtype=np.int64))
        for k in sorted(lives):
            cards += 1
            nights += (hours[k] + seconds[k] / 3600.0) % 24.0 < 5.0
            dislikes += info["not_interested"][k]
            of_tail += info["tail"][k]
            seconds[k] += info["watch_s"][k]
            if info["session_end"][k]:
                visits += 1
                minutes.append(seconds[k] / 60.0)
                seconds[k] = 0.0
            if terminated[k] or truncated[k]:
                lives.remove(k)
    quantiles = np.quantile(minutes, (0.5, 0.95, 0.99))
    shares = nights / cards, dislikes / cards, of_tail / cards
    return cards, visits / N, shares[0], tuple(quantiles.tolist()), *shares[1:]


def test_users_are_the_same_under_each_policy_and_an_audit_can_be_repeated(
    env: SwipeVectorEnv,
) -> None:
    def audit() -> PolicyAudit:
        return audit_policy(env, "myopic", chooser("myopic", 0), 5)

    assert audit() == audit()


@pytest.mark.parametrize("clusters", [50, 200])
def test_the_standard_error_of_a_ratio_is_the_spread_of_its_estimates(clusters: int) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2_000):
        own = rng.beta(2.0, 5.0, clusters)
        counts = 1 + rng.poisson(20.0, clusters)
        sums = rng.binomial(counts, own).astype(np.float64)
        found.append(ratio(sums, counts.astype(np.float64)))
    spread = np.std([figure.value for figure in found])
    told = np.mean([figure.se for figure in found])
    assert told == pytest.approx(spread, rel=4.0 / np.sqrt(2 * 2_000) + 1.0 / clusters)


def test_the_entropy_of_k_topics_alike_is_log_k() -> None:
    counts = np.zeros((3, 8))
    counts[0, :4], counts[1, 0] = 5.0, 9.0
    assert entropy(counts) == pytest.approx([np.log(4.0), 0.0, 0.0])


# --- policies by name ---


def test_a_ranker_of_the_world_is_drawn_from_its_softmax(
    env: SwipeVectorEnv, tmp_path: Path
) -> None:
    ranker = world_ranker(env)
    ranker.to_file(tmp_path / "ranker.safetensors")
    make = find_chooser(str(tmp_path / "ranker.safetensors"), env)
    env.reset(seed=0)
    observation = env.screen.write(copy=True)
    assert isinstance(observation, dict)
    rows = np.concatenate([observation["item"], observation["personal"]], axis=-1)
    logits = ranker.batch_scores(observation["user"], rows)
    pmf = np.exp(logits - logits.max(axis=1, keepdims=True))
    pmf /= pmf.sum(axis=1, keepdims=True)
    choose, n_draws = make(1), 200
    counts = np.zeros_like(pmf)
    for _ in range(n_draws):
        counts[np.arange(N), choose(observation)] += 1.0
    chosen = counts.sum(axis=0)
    sd = np.sqrt((n_draws * pmf * (1.0 - pmf)).sum(axis=0))
    assert (np.abs(chosen - n_draws * pmf.sum(axis=0)) < 4.0 * sd).all()


def test_a_ranker_of_other_columns_is_refused_in_words(env: SwipeVectorEnv, tmp_path: Path) -> None:
    random_ranker(n_user=5, n_item=7).to_file(tmp_path / "other.safetensors")
    with pytest.raises(
        JobError, match=r"expected a ranker of this world's .* was it trained in it"
    ):
        find_chooser(str(tmp_path / "other.safetensors"), env)


def test_a_ranker_of_the_feed_s_columns_is_asked_by_these(tmp_path: Path) -> None:
    ranker = random_ranker()
    ranker.to_file(tmp_path / "feed.safetensors")
    world, feed = open_world(PRESET, N, DAYS), SwipeVectorEnv(N, preset=PRESET, obs="feed")
    choose = find_chooser(str(tmp_path / "feed.safetensors"), world)(3)
    rng = np.random.default_rng(3)
    told, seen = world.reset(seed=0)[0], feed.reset(seed=0)[0]
    for _ in range(12):
        assert isinstance(seen, dict)
        rows = np.concatenate([seen["item"], seen["personal"]], axis=-1)
        logits = ranker.batch_scores(seen["user"], rows)
        expected = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        cards = choose(told)
        assert cards.tolist() == expected.tolist()
        told, seen = world.step(cards)[0], feed.step(cards)[0]


def test_a_policy_of_one_s_own_is_found(
    env: SwipeVectorEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_chooser.py").write_text(
        "import numpy as np\n"
        "def last(seed):\n    return lambda o: np.full(len(o['mask']), o['mask'].shape[1] - 1)\n"
        "def none(seed):\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    env.reset(seed=0)
    chosen = find_chooser("own_chooser:last", env)(0)(env.screen.write(copy=True))
    assert (chosen == env.screen.items.shape[1] - 1).all()
    with pytest.raises(JobError, match="expected a chooser"):
        find_chooser("own_chooser:none", env)(0)


@pytest.mark.parametrize("name", ["best", "no_such.safetensors", "vowpal@3"])
def test_a_name_of_nothing_is_refused(env: SwipeVectorEnv, name: str) -> None:
    with pytest.raises(JobError, match=r"expected uniform, myopic, mixed, the file of a ranker"):
        find_chooser(name, env)


# --- the command ---


def test_the_command_tells_policies_side_by_side() -> None:
    told = CliRunner().invoke(
        app, ["audit", "policy", "uniform", "mixed", "--users", "20", "--days", "2"]
    )
    assert told.exit_code == 0, told.output
    words = ("uniform", "mixed", "mean bait", "entropy", "an hour", "0 to 5 h", "less seen half")
    for told_of in words:
        assert told_of in told.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "policy", "best"], "expected uniform, myopic, mixed, the file of a ranker"),
        (["audit", "policy", "myopic", "--preset", "kuaisim"], "laws are of slates of 6 cards"),
        (["audit", "--market", "GB", "policy", "myopic"], "--market: not looked at before policy"),
    ],
)
def test_a_mistake_is_answered_in_words(arguments: list[str], message: str) -> None:
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2
    assert message in told.stderr
