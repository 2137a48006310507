"""Slots that follow: as many as the user's answers insist on, drawn exactly as they say."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from builders import catalogue_of
from queries import query_of

from env.columns import schema
from env.columns.schema import action_index
from env.features.encode import encode
from env.interface import fill_page, page_pmfs, redraw
from env.items.catalogue import Catalogue
from env.items.topics import topics
from env.users.state import UserState, newcomer
from env.users.topics import Answer
from env.vocabulary import (
    Bools,
    Context,
    CreatorId,
    Item,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.baselines import UniformPolicy
from policies.candidates.filters import filter_candidates
from policies.candidates.query import Query
from policies.candidates.retrieval import InsistedTopics
from policies.slots.following import FOLLOWED_TOPIC, Following, follow
from policies.slots.rules import FAIR_START, slots, spaced

N_TOPICS, N_ITEMS, SIZE = 12, 240, 10
ITEMS = [
    Item(ItemId(f"i{k}"), CreatorId(f"c{k % 60}"), tags=(f"t{k % N_TOPICS}",))
    for k in range(N_ITEMS)
]
CATALOGUE: Catalogue = catalogue_of(*ITEMS)
ALL = np.arange(N_ITEMS)
TOPIC = topics(CATALOGUE, ALL)


def is_of(topic: int) -> Bools:
    return np.asarray([k % N_TOPICS == topic for k in range(N_ITEMS)])


def insistent(*liked: str, n_likes: int = 5) -> UserState:
    """Return a user who skipped one card of each other topic and liked some of these."""
    said = [(f"t{k}", -0.3) for k in range(N_TOPICS) if f"t{k}" not in liked]
    said += [(topic, 1.7) for topic in liked] * n_likes
    answers = tuple(Answer(k, topic, signal) for k, (topic, signal) in enumerate(said))
    return msgspec.structs.replace(
        newcomer(Profile()), topic_answers=answers, evidence=float(len(answers))
    )


def asked(user: UserState, *, follow: float = 0.8, seed: int = 0) -> Query:
    return query_of(user, Scene(1), CATALOGUE, size=SIZE, follow=follow, seed=seed)


def page_rules(query: Query) -> tuple[SlotRule, ...]:
    return spaced(query, ALL, slots(query, ALL))


def open_rules(mask: Bools) -> tuple[SlotRule, ...]:
    return (SlotRule(mask, mask),) * SIZE


def followed(rules: Sequence[SlotRule]) -> list[Bools]:
    return [rule.mask for rule in rules if rule.name == FOLLOWED_TOPIC]


@pytest.mark.parametrize("seed", range(5))
def test_eight_of_ten_slots_follow_a_user_who_insists_and_the_rest_looks_elsewhere(
    seed: int,
) -> None:
    rules = page_rules(asked(insistent("t3"), seed=seed))
    is_liked = is_of(3)
    assert len(followed(rules)) == 8
    assert all((mask == is_liked).all() for mask in followed(rules))
    others = [rule.mask for rule in rules if rule.name != FOLLOWED_TOPIC]
    assert all(mask.any() and not (mask & is_liked).any() for mask in others)


def test_the_places_differ_from_page_to_page() -> None:
    pages = (page_rules(asked(insistent("t3"), seed=seed)) for seed in range(200))
    share = np.mean([[rule.name == FOLLOWED_TOPIC for rule in rules] for rules in pages], axis=0)
    assert np.abs(share - 0.8).max() < 5.0 * 0.4 / np.sqrt(200)


def test_two_topics_take_turns() -> None:
    masks = followed(page_rules(asked(insistent("t3", "t5"))))
    of = [sum(bool(mask[k]) for mask in masks) for k in (3, 5)]
    assert of == [4, 4]


def test_fewer_slots_follow_the_less_sure_it_is() -> None:
    counts = [len(followed(page_rules(asked(insistent("t3", n_likes=n))))) for n in (0, 1, 5)]
    assert counts[0] == 0 < counts[1] <= counts[2] == 8


def test_nobody_is_followed_where_the_settings_say_so() -> None:
    query = asked(insistent("t3"), follow=0.0)
    assert not followed(page_rules(query))
    assert not len(InsistedTopics().propose(query, 10))


def test_slots_follow_only_while_the_topic_has_candidates() -> None:
    following = Following.of(asked(insistent("t3")))
    mask = ~is_of(3) | (np.arange(N_ITEMS) < 2 * N_TOPICS)
    rules = follow(open_rules(mask), TOPIC, following, 0)
    assert len(followed(rules)) == np.count_nonzero(mask & is_of(3)) == 2
    assert all((rule.mask & ~mask).sum() == 0 for rule in rules)


def test_reserved_slots_stay_as_they_are() -> None:
    fair = np.arange(N_ITEMS) < 4
    reserved, other = SlotRule(fair, fair, FAIR_START), SlotRule(~fair, ~fair)
    following = Following.of(asked(insistent("t3")))
    rules = follow((other, reserved, *[other] * 8), TOPIC, following, 0)
    assert rules[1] is reserved
    assert not any((rule.mask & fair).any() for rule in rules if rule.name != FAIR_START)


def test_a_newcomer_is_not_shown_what_was_just_skipped() -> None:
    said = tuple(Answer(k, f"t{k}", -0.3) for k in range(4))
    user = msgspec.structs.replace(newcomer(Profile()), topic_answers=said, evidence=4.0)
    rules = page_rules(asked(user))
    shown = np.logical_or.reduce([rule.mask for rule in rules])
    assert set(TOPIC[shown].tolist()) == set(TOPIC[4:N_TOPICS].tolist())


def test_its_source_proposes_new_items_of_the_topics_in_turn() -> None:
    query = asked(insistent("t3", "t5"))
    index = InsistedTopics().propose(query, 12)
    assert len(set(index.tolist())) == 12
    assert [int(k) % N_TOPICS in (3, 5) for k in index] == [True] * 12
    assert sum(int(k) % N_TOPICS == 3 for k in index) == 6
    assert not len(InsistedTopics().propose(asked(insistent()), 12))


def test_a_creator_may_have_twice_as_many_candidates_of_a_topic_that_is_insisted_on() -> None:
    """Each topic has five creators with four items, of which three are kept."""

    def kept(user: UserState) -> list[int]:
        index = filter_candidates(asked(user), ALL).kept
        return [int(np.count_nonzero(TOPIC[index] == TOPIC[topic])) for topic in (3, 4)]

    assert kept(insistent("t3")) == [20, 15]
    assert kept(insistent()) == [15, 15]


def test_the_topic_signal_is_the_posterior_mean_of_the_item_s_topic() -> None:
    query = asked(insistent("t3"))
    column = encode(query, ALL).actions[:, action_index(schema.TOPIC_SIGNAL)]
    posterior = query.by_topic
    expected = dict(zip(posterior.names, posterior.mean.tolist(), strict=True))
    wanted = [expected[f"t{k % N_TOPICS}"] for k in range(N_ITEMS)]
    assert column == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    assert column[3] > 1.0
    newly = encode(asked(newcomer(Profile())), ALL)
    assert not newly.actions[:, action_index(schema.TOPIC_SIGNAL)].any()


def test_pages_are_drawn_by_their_propensities_and_again_from_their_record() -> None:
    """Draws of many pages against the probabilities of each, by topic (chi-square, 4 se)."""
    policy, n_pages = UniformPolicy(), 600
    observed, expected, variance = np.zeros((3, N_TOPICS))
    for seed in range(n_pages):
        query = asked(insistent("t3"), seed=seed)
        context = Context(
            PageId(f"p{seed}"),
            UserKey("u"),
            SessionId("s"),
            query.scene,
            tuple(item.item_id for item in ITEMS),
            encode(query, ALL),
        )
        page = fill_page(context, policy, page_rules(query), 0.02, seed)
        assert redraw(page, policy, seed) == page.decisions
        for decision, pmf in page_pmfs(page, policy):
            assert decision.propensity == pytest.approx(float(pmf[decision.action]), abs=1e-12)
            share = np.bincount(ALL % N_TOPICS, weights=pmf, minlength=N_TOPICS)
            observed[decision.action % N_TOPICS] += 1
            expected += share
            variance += share * (1.0 - share)
    drawn = variance > 1.0
    z = (observed - expected)[drawn] / np.sqrt(variance[drawn])
    assert np.abs(z).max() < 4.0
    n = int(drawn.sum())
    assert float(np.sum(z**2)) < n + 4.0 * np.sqrt(2.0 * n)
