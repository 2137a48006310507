"""Late feedback in the bandit: the difference is learned as if it had come at once."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from env.columns.schema import N_ACTION, N_SHARED
from env.records import pack_halves
from env.vocabulary import (
    Context,
    Correction,
    DecisionId,
    Example,
    Features,
    Feedback,
    Floats,
    Interaction,
    ItemId,
    PageId,
    Scene,
    SessionId,
    UserKey,
)
from policies.bandit.item_effects import ItemEffects
from policies.bandit.main_effects import N_COLUMNS, MainEffects
from policies.bandit.policy import HybridBandit, PoisonedModel
from policies.bandit.settings import HybridBanditArgs

FOREVER = 1e9
SMALL = HybridBanditArgs(bits=12, main_memory=FOREVER, item_memory=1e6)


def features_of(rng: np.random.Generator, n: int) -> Features:
    shared = rng.normal(size=N_SHARED) * (rng.random(N_SHARED) < 0.5)
    actions = rng.normal(size=(n, N_ACTION)) * (rng.random((n, N_ACTION)) < 0.5)
    return Features(
        shared.astype(np.float16).astype(np.float32),
        actions.astype(np.float16).astype(np.float32),
        np.arange(1, n + 1, dtype=np.uint64),
    )


def stream(seed: int, n: int) -> list[Interaction]:
    """Interactions with twelve items, of rewards 0 and 1."""
    rng = np.random.default_rng(seed)
    some = []
    for k in range(n):
        features, action = features_of(rng, 12), int(rng.integers(12))
        some.append(
            Interaction(
                decision_id=DecisionId(f"p{k}:0"),
                page_id=PageId(f"p{k}"),
                user=UserKey("u"),
                session=SessionId("s"),
                item_id=ItemId(f"i{action}"),
                slot=0,
                policy="uniform@0",
                propensity=0.25,
                n_actions=12,
                shared=pack_halves(features.shared),
                action=pack_halves(features.actions[action]),
                item_key=action + 1,
                duration_s=30.0,
                feedback=Feedback(seen=True, left=True),
                reward=float(rng.random() < 0.2 + 0.05 * action),
                scene=Scene(0),
                closed_ms=0,
            )
        )
    return some


def late(after: Interaction, missing: float) -> tuple[Interaction, Correction]:
    """Return an interaction as it was before a part of its reward came, and the correction."""
    before = msgspec.structs.replace(after, reward=after.reward - missing)
    return before, Correction(before, after, learned=True)


def contexts(n: int) -> list[Context]:
    rng = np.random.default_rng(99)
    return [
        Context(
            PageId("p"),
            UserKey("u"),
            SessionId("s"),
            Scene(0),
            tuple(ItemId(f"i{k}") for k in range(12)),
            features_of(rng, 12),
        )
        for _ in range(n)
    ]


def learned(examples: Sequence[Example], args: HybridBanditArgs = SMALL) -> HybridBandit:
    policy = HybridBandit(args)
    policy.learn(examples)
    return policy


def scores(policy: HybridBandit) -> Floats:
    return np.array([policy.predict(context) for context in contexts(20)])


class Effects:
    """Main and item effects without VW, beside the exact moments of all rows."""

    def __init__(self) -> None:
        self.items = ItemEffects(8, N_COLUMNS, 0.6, FOREVER)
        self.main = MainEffects(0.6, FOREVER, 0.6)

    def fold(self, slot: int, columns: Floats, reward: float) -> None:
        own = self.items.own(slot, self.main.weights)
        self.main.fold(self.items.fold(own, columns, self.main.expect(columns), reward))

    def correct(self, slot: int, columns: Floats, reward: float, difference: float) -> None:
        own = self.items.own(slot, self.main.weights)
        expected = self.main.expect(columns)
        self.main.correct(self.items.correct(own, columns, expected, reward, difference))


def rows_of(n: int) -> list[tuple[int, Floats, float]]:
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(n):
        slot, columns = int(rng.integers(6)), np.zeros(N_COLUMNS)
        columns[0], columns[1:4] = 1.0, rng.normal(size=3)
        rows.append((slot, columns, float(0.3 * columns[1] + 0.1 * slot + rng.normal(0.0, 0.4))))
    return rows


@pytest.mark.parametrize("wait", [0, 1, 30, 600])
def test_a_reward_that_comes_late_gives_the_posterior_of_one_that_came_at_once(wait: int) -> None:
    rows, prompt, corrected = rows_of(600), Effects(), Effects()
    for k, (slot, columns, reward) in enumerate(rows):
        prompt.fold(slot, columns, reward + (k % 3 == 0))
        corrected.fold(slot, columns, reward)
        if k >= wait and (k - wait) % 3 == 0:
            corrected.correct(*rows[k - wait], 1.0)
    for k in range(max(len(rows) - wait, 0), len(rows)):
        if k % 3 == 0:
            corrected.correct(*rows[k], 1.0)
    mean, covariance = prompt.main.posterior()
    late_mean, late_covariance = corrected.main.posterior()
    # The shrinkage of the items' effects is that of the moment, which moves what they all share.
    off = np.abs(late_mean - mean) / np.sqrt(np.diag(covariance) * prompt.items.noise)
    assert off[0] < 0.3
    assert (off[1:] < 0.02).all()
    np.testing.assert_allclose(late_covariance, covariance, rtol=0.05, atol=2e-4)
    assert corrected.items.noise == pytest.approx(prompt.items.noise, rel=0.02)
    ours, theirs = (
        effects.items.beliefs(*effects.main.posterior()).posterior(np.arange(6))
        for effects in (corrected, prompt)
    )
    items_off = late_mean[0] + ours[0] - mean[0] - theirs[0]
    assert (np.abs(items_off) < 0.05 * theirs[1]).all()
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0.05)


def test_what_comes_late_is_as_good_as_learned_at_once() -> None:
    told = stream(1, 1_500)
    examples: list[Example] = []
    for k, after in enumerate(told):
        before, correction = late(after, 0.5 * (k % 2))
        examples += [before, correction]
    prompt, lost = learned(told), learned([e for e in examples if isinstance(e, Interaction)])
    at_once, expected = learned(examples), scores(prompt)
    spread = float(np.abs(scores(lost) - expected).mean())
    assert spread > 0.1, "half a reward of every second card is missing"
    assert float(np.abs(scores(at_once) - expected).mean()) < 0.05 * spread
    assert at_once.n_events == prompt.n_events


def test_vowpal_takes_the_step_that_the_right_label_would_have_added() -> None:
    told = stream(2, 200)
    before, correction = late(told[-1], 1.0)
    policies = [HybridBandit(SMALL) for _ in range(3)]
    ends: tuple[list[Example], ...] = ([told[-1]], [before, correction], [before])
    for policy, last in zip(policies, ends, strict=True):
        policy.learn(told[:-1])
        policy.learn(last)
    prompt, corrected, lost = (policy._workspace.weights()[:, 0, 0] for policy in policies)
    moved, missing = np.linalg.norm(prompt - lost), np.linalg.norm(prompt - corrected)
    assert moved > 0.0
    assert missing < 0.25 * moved, "each step that adapts is a little smaller than the one before"


def test_corrections_are_learned_alike_however_they_are_cut() -> None:
    examples: list[Example] = []
    for k, after in enumerate(stream(3, 120)):
        before, correction = late(after, 0.5 * (k % 2))
        examples += [before, correction]
    whole = learned(examples).to_bytes()
    for size in (1, 7, 100):
        policy = HybridBandit(SMALL)
        for start in range(0, len(examples), size):
            policy.learn(examples[start : start + size])
            policy = HybridBandit.from_bytes(policy.to_bytes(), SMALL, 1)
        assert policy.to_bytes() == whole


@pytest.mark.parametrize("field", ["before", "after"])
def test_a_correction_with_a_bad_reward_is_refused(field: str) -> None:
    told = stream(4, 20)
    _, correction = late(told[0], 0.5)
    bad = msgspec.structs.replace(getattr(correction, field), reward=float("inf"))
    policy = learned(told)
    state = policy.to_bytes()
    policy.learn([msgspec.structs.replace(correction, **{field: bad})])
    assert policy.refusals == {"reward": 1}
    assert len(policy.to_bytes()) >= len(state)
    assert policy.n_events == 20


def test_a_correction_that_breaks_the_model_is_rolled_back() -> None:
    args = msgspec.structs.replace(SMALL, learning_rate=30.0, max_score=10.0)
    told = stream(6, 40)
    policy = learned(told, args)
    state = policy.to_bytes()
    _, correction = late(msgspec.structs.replace(told[3], reward=90.0), 90.0)
    with pytest.raises(PoisonedModel, match="out of bounds"):
        policy.learn([correction])
    assert policy.to_bytes() == state


def test_an_item_that_was_never_learned_has_nothing_to_correct() -> None:
    told = stream(7, 30)
    policy = learned([each for each in told if each.item_key != told[0].item_key])
    state = policy.to_bytes()
    policy.learn([late(told[0], 0.5)[1]])
    assert policy.to_bytes() == state
