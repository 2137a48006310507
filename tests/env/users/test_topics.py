"""A user's topics: the posterior is Bayes's, it follows what is consistent, and it lets go."""

import math

import numpy as np
import pytest
from builders import catalogue_of

from env.items.topics import of_topic, topic_codes, topic_name, topics
from env.users.topics import (
    CARD_DECAY,
    GRID_BETWEEN,
    GRID_LOG_PRIOR,
    GRID_NOISE,
    MAX_ANSWERS,
    MEAN_VARIANCE,
    TOPIC_DECAY,
    Answer,
    Answers,
    put_topic_answer,
    topic_posterior,
    weights_of,
)
from env.vocabulary import Float32s, Floats, Item, ItemId

LIKED, SKIPPED = 1.7, -0.3
OTHERS = "bcdefghij"


def answers(*said: tuple[str, float]) -> Answers:
    return tuple(Answer(k, topic, signal) for k, (topic, signal) in enumerate(said))


def chance(said: Answers, topic: str) -> float:
    posterior = topic_posterior(said)
    return float(posterior.chance_above(0.3)[posterior.names.index(topic)])


def by_matrices(said: Answers, names: tuple[str, ...]) -> tuple[Floats, Floats, Floats]:
    """Return log evidence (g,), means and variances (g, k) of the joint normal of m and effects."""
    weight = np.diag(weights_of([answer.topic for answer in said]))
    design = np.array([[1.0, *(answer.topic == name for name in names)] for answer in said])
    signal = np.array([answer.signal for answer in said])
    evidence, means, variances = [], [], []
    for noise, between in zip(GRID_NOISE, GRID_BETWEEN, strict=True):
        prior = np.diag([1.0 / MEAN_VARIANCE] + [1.0 / between] * len(names))
        precision = prior + design.T @ weight @ design / noise
        covariance = np.linalg.inv(precision)
        mean = covariance @ (design.T @ weight @ signal) / noise
        fit = mean @ precision @ mean - signal @ weight @ signal / noise
        logs = np.linalg.slogdet(prior)[1] - np.linalg.slogdet(precision)[1]
        evidence.append(0.5 * (fit + logs - np.trace(weight) * math.log(noise)))
        means.append(mean[1:])
        variances.append(np.diag(covariance)[1:])
    return np.array(evidence), np.array(means), np.array(variances)


@pytest.mark.parametrize("seed", range(5))
def test_the_posterior_is_that_of_the_joint_normal_mixed_over_variances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = answers(
        *((str(rng.choice(list("abcd"))), float(rng.normal(0.2, 0.7))) for _ in range(20))
    )
    posterior = topic_posterior(said)
    evidence, means, variances = by_matrices(said, posterior.names)
    weights = np.exp(GRID_LOG_PRIOR + evidence - (GRID_LOG_PRIOR + evidence).max())
    weights /= weights.sum()
    assert posterior.weights == pytest.approx(weights, abs=1e-9)
    assert posterior.mean == pytest.approx(weights @ means, abs=1e-9)
    drawn = rng.choice(len(weights), 40_000, p=weights)
    effects = rng.normal(means[drawn], np.sqrt(variances[drawn]))
    share = (effects > 0.3).mean(axis=0)
    assert np.abs(posterior.chance_above(0.3) - share).max() < 5.0 * 0.5 / math.sqrt(40_000)


def test_nothing_is_expected_of_a_newcomer() -> None:
    posterior = topic_posterior(())
    assert posterior.names == ()
    assert posterior.mean.shape == posterior.chance_above(0.3).shape == (0,)
    assert posterior.weights.sum() == pytest.approx(1.0)


def test_one_like_among_skips_is_followed_and_more_of_them_surely() -> None:
    others = tuple((topic, SKIPPED) for topic in OTHERS)
    once, often = (chance(answers(*others, *[("a", LIKED)] * n), "a") for n in (1, 5))
    assert 0.6 < once < 0.9 < often


def test_the_same_likes_weigh_less_where_answers_contradict_each_other() -> None:
    """Signals of the same two sizes, which agree within topics or do not."""
    rng = np.random.default_rng(3)
    consistent = [("a", LIKED), *((t, SKIPPED) for t in "bcde")] * 4
    mixed = [(t, LIKED if rng.random() < 0.2 else SKIPPED) for t in "bcde" * 4]
    mixed += [("a", LIKED), ("a", SKIPPED), ("a", SKIPPED), ("a", LIKED)]
    assert chance(answers(*consistent), "a") > 0.9
    assert chance(answers(*mixed), "a") < 0.6


def test_it_lets_go_of_a_topic_within_five_skips() -> None:
    sure = [(t, SKIPPED) for t in OTHERS] + [("a", LIKED)] * 20
    assert chance(answers(*sure), "a") > 0.9
    assert chance(answers(*sure, *[("a", SKIPPED)] * 5), "a") < 0.2


def test_weights_fall_with_later_cards_and_faster_with_those_of_the_topic() -> None:
    weights = weights_of(["a", "b", "a", "a"])
    c, t = CARD_DECAY, TOPIC_DECAY
    assert weights.tolist() == pytest.approx([c**3 * t**2, c**2, c * t, 1.0])


def test_an_answer_is_corrected_in_its_place_and_the_oldest_goes() -> None:
    said: Answers = ()
    for k in range(MAX_ANSWERS + 3):
        said = put_topic_answer(said, Answer(k, "a", 0.0), is_new=True)
    assert [answer.key for answer in said] == list(range(3, MAX_ANSWERS + 3))
    corrected = put_topic_answer(said, Answer(10, "a", 1.0), is_new=False)
    assert [a.key for a in corrected] == [a.key for a in said]
    assert [a.key for a in corrected if a.signal] == [10]
    assert put_topic_answer(said, Answer(0, "a", 1.0), is_new=False) == said


def test_topics_have_the_same_code_by_name_and_by_item() -> None:
    rng = np.random.default_rng(1)
    vectors: list[Float32s] = list(rng.standard_normal((6, 32)).astype(np.float32))
    items = [Item(ItemId(f"v{k}"), vector=tuple(v.tolist())) for k, v in enumerate(vectors)]
    items += [Item(ItemId(f"t{k}"), tags=(f"Topic{k % 2}", "more")) for k in range(4)]
    catalogue = catalogue_of(*items)
    index = np.arange(len(items))
    names = [
        topic_name(("topic0",) if k == 6 else ("topic1",) if k == 7 else (), vector)
        for k, vector in enumerate(catalogue.card(k).block[:64] if k < 6 else b"" for k in range(8))
    ]
    assert topic_codes(catalogue, names).tolist() == topics(catalogue, index)[:8].tolist()
    for code in set(topics(catalogue, index).tolist()):
        found = of_topic(catalogue, code)
        assert found.tolist() == np.flatnonzero(topics(catalogue, index) == code).tolist()
    unknown = topic_codes(catalogue, ["nowhere"])
    assert not np.isin(topics(catalogue, index), unknown).any()
    assert topic_name((), b"") == ""
