import numpy as np
import pytest

from env.reward import Reward, is_long_view, is_valid_play
from env.vocabulary import Feedback, Floats
from env.world.answers import (
    N_UNIFORMS,
    Answer,
    ItemTerms,
    Rates,
    answer,
    chances,
    expected_reward,
    item_terms,
)

N = 200_000
RATES = Rates(watch_duration=0.4, comment=0.02, share=0.02, follow=0.01, not_interested=0.01)
# duration (s), u, affinity in standard deviations, quality, bait
SCENES = [
    (0.0, 0.3, 0.5, 0.2, 0.3),
    (5.0, -1.0, -1.5, -0.5, 0.9),
    (12.0, 0.0, 0.0, 0.0, 0.0),
    (60.0, 1.5, 2.0, 1.0, 0.5),
    (300.0, -3.0, 0.0, 0.0, 1.0),
]


def terms(duration_s: float, quality: float, bait: float) -> ItemTerms:
    return item_terms(RATES, np.array([duration_s]), np.array([quality]), np.array([bait]))


def draws(u: float, item: ItemTerms, affinity_sds: float, seed: int) -> Answer:
    rng = np.random.default_rng(seed)
    us = np.full(N, u)
    return answer(
        RATES, us, item, affinity_sds, list(rng.random((N_UNIFORMS, N))), rng.standard_normal(N)
    )


def assert_mean(values: Floats, expected: float) -> None:
    se = max(float(values.std()) / len(values) ** 0.5, (expected / len(values)) ** 0.5, 1e-9)
    assert abs(float(values.mean()) - expected) <= 4.0 * se


@pytest.mark.parametrize("scene", SCENES)
def test_every_event_happens_as_often_as_its_closed_form_says(
    scene: tuple[float, float, float, float, float],
) -> None:
    duration_s, u, affinity_sds, quality, bait = scene
    item = terms(duration_s, quality, bait)
    drawn = draws(u, item, affinity_sds, seed=7)
    exact = chances(RATES, np.array([u]), item, np.array([affinity_sds]))
    watch_s = np.asarray(drawn.watch_s)
    short = 0.0 < duration_s <= 7.0
    valid = watch_s >= duration_s if short else watch_s > 7.0
    long = watch_s >= (duration_s if 0.0 < duration_s <= 18.0 else 18.0)
    observed = (valid, long, drawn.like, drawn.comment, drawn.share, drawn.follow)
    for values, chance in zip((*observed, drawn.not_interested), exact, strict=True):
        assert_mean(np.asarray(values, dtype=np.float64), float(np.asarray(chance)[0]))


@pytest.mark.parametrize("scene", SCENES)
def test_the_expected_reward_is_the_mean_of_the_reward_of_drawn_feedback(
    scene: tuple[float, float, float, float, float],
) -> None:
    duration_s, u, affinity_sds, quality, bait = scene
    item = terms(duration_s, quality, bait)
    drawn = draws(u, item, affinity_sds, seed=11)
    reward = Reward()
    rewards = np.array(
        [
            reward.of(
                Feedback(
                    seen=True,
                    left=True,
                    dwell_s=float(watch_s),
                    like=bool(like),
                    comment=bool(comment),
                    share=bool(share),
                    follow=bool(follow),
                    not_interested=bool(disliked),
                ),
                duration_s,
            )
            for _, watch_s, like, comment, share, follow, disliked in zip(
                *(np.asarray(column)[:40_000] for column in drawn), strict=True
            )
        ]
    )
    exact = expected_reward(RATES, reward, np.array([u]), item, np.array([affinity_sds]))
    assert_mean(rewards, float(exact[0]))


def test_the_expected_reward_is_the_weighted_sum_of_the_chances() -> None:
    rng = np.random.default_rng(3)
    n = 500
    item = item_terms(
        RATES, np.exp(rng.normal(3.5, 1.2, n)), rng.normal(size=n), rng.uniform(size=n)
    )
    u, affinity_sds = rng.normal(size=n), rng.normal(size=n)
    c = chances(RATES, u, item, affinity_sds)
    w = Reward(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, -0.8)
    weighted = (
        w.valid_play * c.valid_play
        + w.long_view * c.long_view
        + w.like * c.like
        + w.comment * c.comment
        + w.share * c.share
        + w.follow * c.follow
        + w.not_interested * c.not_interested
    )
    np.testing.assert_allclose(expected_reward(RATES, w, u, item, affinity_sds), weighted, 1e-12)


def test_one_card_is_answered_alone_as_it_is_among_many_to_the_last_bit() -> None:
    rng = np.random.default_rng(5)
    n = 300
    duration_s = np.where(rng.random(n) < 0.1, 0.0, np.exp(rng.normal(3.0, 1.0, n)))
    item = item_terms(RATES, duration_s, rng.normal(size=n), rng.uniform(size=n))
    u, sds, normal = rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)
    uniforms = rng.random((N_UNIFORMS, n))
    many = answer(RATES, u, item, sds, list(uniforms), normal)
    for k in range(n):
        mine = ItemTerms(
            item.passed[:, k],
            item.threshold[:, k],
            *(float(np.asarray(column)[k]) for column in item[2:]),
        )
        one = answer(RATES, float(u[k]), mine, float(sds[k]), uniforms[:, k].tolist(), normal[k])
        assert [float(x) for x in one] == [float(np.asarray(x)[k]) for x in many]


def test_a_view_ends_with_the_video_unless_it_loops_or_the_duration_is_unknown() -> None:
    never = Rates(loop=0.0)
    rng = np.random.default_rng(1)
    uniforms, normal = list(rng.random((N_UNIFORMS, 20_000))), rng.standard_normal(20_000)
    item = item_terms(never, np.array([20.0, 0.0]), np.zeros(2), np.zeros(2))
    for k, most in ((0, 20.0), (1, np.inf)):
        mine = ItemTerms(*(np.asarray(column)[..., [k]] for column in item))
        capped = np.asarray(
            answer(never, np.full(20_000, 1.0), mine, 0.0, uniforms, normal).watch_s
        )
        looped = np.asarray(
            answer(RATES, np.full(20_000, 1.0), mine, 0.0, uniforms, normal).watch_s
        )
        assert capped.max() <= most
        assert looped.max() > 20.0
    assert is_valid_play(20.0, 20.0)
    assert is_long_view(20.0, 20.0)


def test_who_likes_follows_more_often() -> None:
    drawn = draws(0.5, terms(40.0, 0.0, 0.0), 0.0, seed=2)
    like, follow = np.asarray(drawn.like) > 0.0, np.asarray(drawn.follow)
    assert follow[like].mean() > 1.5 * follow[~like].mean()


def test_longer_videos_are_watched_longer_by_the_same_interest() -> None:
    short, long = (
        np.asarray(draws(0.0, terms(s, 0.0, 0.0), 0.0, seed=4).watch_s).mean()
        for s in (10.0, 100.0)
    )
    assert long > 2.0 * short
