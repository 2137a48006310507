import math
from collections.abc import Iterator, Sequence
from typing import Literal, cast

import msgspec
import numpy as np
import pytest
from one_candidate import columns_of, features_of
from vowpal_wabbit_next import TextFormatParser, Workspace

from env.columns.schema import DYNAMIC, N_ACTION, N_SHARED, N_STATIC, SHARED
from env.interface import fill_page
from env.records import pack_halves
from env.vocabulary import (
    Context,
    DecisionId,
    Features,
    Feedback,
    Float32s,
    Floats,
    Interaction,
    ItemId,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.bandit.item_effects import ItemPosteriors
from policies.bandit.main_effects import MAIN_USER_COLUMNS, N_COLUMNS, N_USER_COLUMNS
from policies.bandit.policy import HybridBandit, PoisonedModel, features_text
from policies.bandit.scorer import (
    OWN_REWARDS,
    HybridBanditScorer,
    Kernel,
    make_layout,
    without_own_rewards,
)
from policies.bandit.settings import HybridBanditArgs
from policies.explorers import Epsilon, SquareCB


def random_features(rng: np.random.Generator, n: int) -> Features:
    """Features with zeros among them, quantised as `encode` does."""
    shared = rng.normal(size=N_SHARED) * (rng.random(N_SHARED) < 0.7)
    actions = rng.normal(size=(n, N_ACTION)) * (rng.random((n, N_ACTION)) < 0.7)
    return Features(
        shared=shared.astype(np.float16).astype(np.float32),
        actions=actions.astype(np.float16).astype(np.float32),
        keys=rng.integers(0, 2**64, n, dtype=np.uint64),
    )


def context_of(features: Features) -> Context:
    candidates = tuple(ItemId(f"{key:x}") for key in features.keys)
    page, user, session = PageId("p"), UserKey("u"), SessionId("s")
    return Context(page, user, session, Scene(0), candidates, features)


def interaction_of(
    features: Features,
    action: int = 0,
    *,
    reward: float = 1.0,
    propensity: float = 0.1,
    n_actions: int = 10,
) -> Interaction:
    return Interaction(
        decision_id=DecisionId("p:0"),
        page_id=PageId("p"),
        user=UserKey("u"),
        session=SessionId("s"),
        item_id=ItemId("i"),
        slot=0,
        policy="uniform@0",
        propensity=propensity,
        n_actions=n_actions,
        shared=pack_halves(features.shared),
        action=pack_halves(features.actions[action]),
        item_key=int(features.keys[action]),
        duration_s=20.0,
        feedback=Feedback(seen=True, left=True),
        reward=reward,
        scene=Scene(0),
        closed_ms=0,
    )


def stream_of(seed: int, n: int) -> list[Interaction]:
    """Interactions whose propensities reach down to 1e-4 and whose lists differ in length."""
    rng = np.random.default_rng(seed)
    return [
        interaction_of(
            random_features(rng, 1),
            reward=float(rng.choice([-1.0, 0.0, 0.5, 1.0, 4.5])),
            propensity=float(10.0 ** rng.uniform(-4.0, 0.0)),
            n_actions=int(rng.integers(1, 200)),
        )
        for _ in range(n)
    ]


def learned(stream: Sequence[Interaction], args: HybridBanditArgs | None = None) -> HybridBandit:
    policy = HybridBandit(args)
    policy.learn(stream)
    return policy


def vw_costs(workspace: Workspace[Literal[False]], features: Features, bits: int = 18) -> Floats:
    """What VW itself predicts for the features' text."""
    parser = TextFormatParser(workspace)
    lines = features_text(features)
    predicted = workspace.predict_one([parser.parse_line(line) for line in lines])
    costs = np.full(len(features.keys), np.nan)
    for action, cost in cast("list[tuple[int, float]]", predicted):
        costs[action] = cost
    return costs


def vw_rounding(features: Features, weights: Float32s, bits: int = 18) -> Floats:
    """A millionth, of the sum of a cost's absolute terms where that is above 1: VW adds float32."""
    absolute = Features(np.abs(features.shared), np.abs(features.actions), features.keys)
    return 1e-6 * np.maximum(1.0, Kernel(make_layout(bits), np.abs(weights)).predict(absolute))


@pytest.mark.parametrize("bits", [8, 12, 18])
@pytest.mark.parametrize("n", [1, 2, 100])
def test_the_kernel_predicts_what_vw_predicts_even_where_indices_collide(bits: int, n: int) -> None:
    rng = np.random.default_rng(bits * 1000 + n)
    policy = HybridBandit(HybridBanditArgs(bits=bits))
    weights = policy._workspace.weights()
    for _ in range(3):
        weights[:, 0, 0] = rng.normal(scale=0.02, size=1 << bits)
        features = random_features(rng, n)
        costs = Kernel(make_layout(bits), weights[:, 0, 0]).predict(features)
        difference = np.abs(costs - vw_costs(policy._workspace, features, bits))
        assert (difference <= vw_rounding(features, weights[:, 0, 0], bits)).all()


@pytest.mark.parametrize("seed", range(4))
def test_what_a_learned_model_expects_is_main_effects_vw_s_share_and_the_items_effects(
    seed: int,
) -> None:
    stream = stream_of(seed, 500)
    policy = learned(stream, HybridBanditArgs(newcomer_optimism=0.2))
    features = random_features(np.random.default_rng(seed + 100), 100)
    features.keys[:50] = [interaction.item_key for interaction in stream[:50]]
    weights, covariance = policy._main.posterior()
    beliefs = policy._effects.beliefs(weights, covariance)
    own, sd = beliefs.posterior(policy._layout.items(features.keys))
    user = weights[0] + features.shared[MAIN_USER_COLUMNS] @ weights[1:N_USER_COLUMNS]
    main = user + without_own_rewards(features).actions @ weights[N_USER_COLUMNS:]
    share = policy._worth.share(policy._effects.noise)
    expected = main + own - share * vw_costs(policy._workspace, features)
    context = context_of(features)
    np.testing.assert_allclose(policy.predict(context), expected, rtol=0, atol=1e-6)
    width = policy.args.exploration_bonus().width_for(features.shared)
    assert width >= policy.args.optimism > 0.0
    np.testing.assert_allclose(policy.score(context), expected + width * sd, rtol=0, atol=1e-6)
    assert sd[:50].mean() < sd[50:].mean()
    assert np.abs(main).max() > 0.1 < np.abs(own).max()


def test_vw_is_believed_as_far_as_its_predictions_came_true() -> None:
    def share_of(pairs: float, seed: int) -> float:
        rng = np.random.default_rng(seed)
        stream = []
        for _ in range(3_000):
            features = random_features(rng, 1)
            reward = pairs * features.shared[0] * features.actions[0, 0] + rng.normal(0.0, 0.5)
            stream.append(interaction_of(features, reward=float(reward)))
        policy = learned(stream)
        return policy._worth.share(policy._effects.noise)

    # One bad step of VW early in a stream costs it much of its share for long.
    nothing, all_of_it = ([share_of(pairs, seed) for seed in (40, 41, 42)] for pairs in (0.0, 1.0))
    assert np.median(nothing) < 0.2 < 0.5 < np.median(all_of_it) <= 1.0


def test_a_candidate_s_score_is_the_same_bits_in_any_company_and_memory_layout() -> None:
    policy = learned(stream_of(0, 300))
    features = random_features(np.random.default_rng(1), 200)
    scores = policy.score(context_of(features))
    for some in (np.arange(1), np.arange(7), np.arange(199, -1, -1), np.array([5, 150])):
        part = Features(
            shared=features.shared.copy(),
            actions=np.asfortranarray(features.actions[some]),
            keys=features.keys[some],
        )
        assert policy.score(context_of(part)).tobytes() == scores[some].tobytes()


@pytest.mark.parametrize(
    "args",
    [
        HybridBanditArgs(bits=12, learning_rate=4.0, power_t=0.0),
        HybridBanditArgs(bits=12, learning_rate=0.5, power_t=0.5, clip_p=0.0),
    ],
)
@pytest.mark.slow
def test_learning_from_the_chosen_action_alone_equals_vw_learning_from_full_lists(
    args: HybridBanditArgs,
) -> None:
    rng = np.random.default_rng(3)
    full = Workspace(args.command())
    parser = TextFormatParser(full)
    policy = HybridBandit(args)
    for _ in range(300):
        n = int(rng.integers(2, 30))
        features = random_features(rng, n)
        action = int(rng.integers(n))
        reward = float(rng.choice([-1.0, 0.0, 0.5, 2.0]))
        propensity = float(rng.uniform(0.001, 1.0))
        interaction = interaction_of(
            features, action, reward=reward, propensity=propensity, n_actions=n
        )
        chosen = without_own_rewards(features_of(interaction))
        own = policy._effects.own(int(policy._layout.items(chosen.keys)[0]), policy._main.weights)
        left = reward - policy._main.expect(columns_of(chosen)) - own.mean
        lines = features_text(features)
        lines[1 + action] = f"0:{-left!r}:{propensity!r} {lines[1 + action]}"
        full.learn_one([parser.parse_line(line) for line in lines])
        policy.learn([interaction])
    features = random_features(rng, 50)
    expected = vw_costs(full, features)
    assert np.abs(expected).max() > 0.1
    costs = vw_costs(policy._workspace, features)
    np.testing.assert_allclose(costs, expected, rtol=0, atol=2e-5)


def test_the_same_stream_gives_the_same_bytes_however_it_was_cut_or_interrupted() -> None:
    args = HybridBanditArgs()
    stream = stream_of(5, 120)
    stream[40] = interaction_of(random_features(np.random.default_rng(0), 1), reward=math.nan)
    whole = learned(stream, args).to_bytes()
    rng = np.random.default_rng(6)
    for n_cuts in (1, 5, 20):
        policy = HybridBandit(args)
        for batch in np.split(np.arange(120), np.sort(rng.integers(0, 121, n_cuts))):
            policy.learn([stream[i] for i in batch])
            policy = HybridBandit.from_bytes(policy.to_bytes(), args, version=n_cuts)
        assert policy.to_bytes() == whole


def test_a_loaded_policy_and_a_loaded_scorer_score_the_same_bits() -> None:
    policy = learned(stream_of(7, 200))
    context = context_of(random_features(np.random.default_rng(8), 60))
    scores = policy.score(context)
    again = HybridBandit.from_bytes(policy.to_bytes(), policy.args, 3)
    scorer = HybridBanditScorer.from_bytes(policy.frozen(3).to_bytes(), policy.args.explorer, 3)
    assert again.name == scorer.name == "vowpal@3"
    assert again.explorer == scorer.explorer == policy.explorer
    assert again.score(context).tobytes() == scores.tobytes()
    assert scorer.score(context).tobytes() == scores.tobytes()
    mask = np.arange(60) % 3 > 0
    assert scorer.explore(scores, mask).tobytes() == policy.explore(scores, mask).tobytes()


def test_a_frozen_policy_stays_as_it_is_while_its_learner_moves_on() -> None:
    policy = learned(stream_of(9, 50))
    context = context_of(random_features(np.random.default_rng(10), 20))
    frozen = policy.frozen(1)
    before = frozen.score(context)
    policy.learn(stream_of(11, 50))
    assert frozen.score(context).tobytes() == before.tobytes()
    assert not np.array_equal(policy.score(context), before)


def test_an_empty_model_scores_everybody_alike() -> None:
    context = context_of(random_features(np.random.default_rng(12), 20))
    assert not HybridBandit().predict(context).any()
    assert np.ptp(HybridBandit().score(context)) == 0.0


def test_an_item_is_remembered_beyond_its_features() -> None:
    features = random_features(np.random.default_rng(13), 1)
    twins = Features(
        shared=features.shared,
        actions=np.repeat(features.actions, 2, axis=0),
        keys=np.array([1, 2], dtype=np.uint64),
    )
    policy = HybridBandit()
    for _ in range(100):
        policy.learn([interaction_of(twins, 0, reward=1.0), interaction_of(twins, 1, reward=0.0)])
    scores = policy.score(context_of(twins))
    assert scores[0] > scores[1]


def broken(field: str, value: object) -> Interaction:
    sound = interaction_of(random_features(np.random.default_rng(14), 1))
    return msgspec.structs.replace(sound, **{field: value})


def halves(width: int, value: float) -> bytes:
    return np.full(width, value, dtype="<f2").tobytes()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("reward", math.nan, "reward"),
        ("reward", -math.inf, "reward"),
        ("reward", 1e30, "reward"),
        ("propensity", 0.0, "propensity"),
        ("propensity", -0.5, "propensity"),
        ("propensity", 1.5, "propensity"),
        ("propensity", math.nan, "propensity"),
        ("n_actions", 0, "n_actions"),
        ("shared", halves(N_SHARED, math.nan), "shared"),
        ("shared", halves(N_SHARED, 60_000.0), "shared"),
        ("shared", halves(N_SHARED - 1, 0.0), "shared"),
        ("shared", b"\0" * (2 * N_SHARED - 1), "shared"),
        ("action", halves(N_ACTION, math.inf), "action"),
        ("action", halves(N_ACTION + 1, 0.0), "action"),
    ],
)
def test_a_bad_number_is_refused_counted_and_changes_nothing_else(
    field: str, value: object, reason: str
) -> None:
    stream = stream_of(15, 30)
    clean = learned(stream)
    policy = learned([*stream[:10], broken(field, value), *stream[10:]])
    assert policy.refusals == {reason: 1}
    assert policy.n_events == clean.n_events == 30
    assert policy._workspace.serialize() == clean._workspace.serialize()


def test_a_poisoned_batch_is_rolled_back_to_the_byte() -> None:
    args = HybridBanditArgs(max_score=2.0, learning_rate=10.0, power_t=0.0)
    features = random_features(np.random.default_rng(16), 1)
    policy = learned([interaction_of(features, reward=0.5)], args)
    before = policy.to_bytes()
    scores = policy.score(context_of(features))
    with pytest.raises(PoisonedModel, match=r"out of bounds \(max_score 2.0\).*rolled back to 1"):
        policy.learn([broken("reward", math.nan), *[interaction_of(features, reward=90.0)] * 20])
    assert policy.to_bytes() == before
    assert policy.score(context_of(features)).tobytes() == scores.tobytes()


def test_a_weight_that_is_not_finite_never_survives_a_batch() -> None:
    policy = learned(stream_of(17, 20))
    before = policy.to_bytes()
    policy_weights = policy._workspace.weights()

    class Saboteur(list[Interaction]):
        """Breaks the model at the end of the batch, as an overflow inside VW would."""

        def __iter__(self) -> Iterator[Interaction]:
            yield from super().__iter__()
            policy_weights[123, 0, 1] = np.nan

    with pytest.raises(PoisonedModel, match="a weight is not finite"):
        policy.learn(Saboteur(stream_of(18, 5)))
    assert policy.to_bytes() == before


def test_bytes_learned_under_other_arguments_are_refused() -> None:
    data = learned(stream_of(19, 5)).to_bytes()
    with pytest.raises(ValueError, match=r"expected a model learned under .*--bit_precision 12"):
        HybridBandit.from_bytes(data, HybridBanditArgs(bits=12), 1)
    HybridBandit.from_bytes(data, HybridBanditArgs(explorer=Epsilon(0.2), max_score=7.0), 1)


NO_MAIN = bytes(8 * N_COLUMNS)


def scorer_bytes(
    weights: bytes, beliefs: bytes | None = None, main: bytes = NO_MAIN, share: float = 1.0
) -> bytes:
    sound = ItemPosteriors.unmet(256).to_bytes()
    return msgspec.msgpack.encode(((1.0, 0.5, 20.0), weights, main, share, beliefs or sound))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "what is believed of items, got"),
        (b"\0" * 1024, "what is believed of items, got"),
        *((scorer_bytes(b"\0" * n), r"expected 4 \* 2\^bits bytes") for n in (0, 4, 12, 1027)),
        (scorer_bytes(np.full(256, np.nan, "<f4").tobytes()), "expected finite weights"),
        (scorer_bytes(bytes(1024), b"\0"), "what is believed of items, got"),
        (
            scorer_bytes(bytes(1024), msgspec.msgpack.encode((1.0, 0.0, 0.0, (b"", b"")))),
            "expected variances above 0 and a spread",
        ),
        (
            scorer_bytes(bytes(1024), msgspec.msgpack.encode((1.0, 1.0, 0.0, (b"1234", b"")))),
            "expected 4 bytes an item",
        ),
        (scorer_bytes(bytes(1024), main=NO_MAIN[8:]), "bytes of main effects"),
        (
            scorer_bytes(bytes(1024), main=np.full(N_COLUMNS, np.inf, "<f8").tobytes()),
            "expected finite main effects",
        ),
        (scorer_bytes(bytes(1024), share=1.5), r"expected a share of VW in \[0, 1\], got 1.5"),
        (
            msgspec.msgpack.encode(((math.nan, 0.5, 20.0), bytes(1024), NO_MAIN, 1.0, b"")),
            "width must be in",
        ),
    ],
)
def test_a_scorer_refuses_bytes_that_are_none_of_a_scorer(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridBanditScorer.from_bytes(data, SquareCB(), 1)


def test_what_tells_items_apart_by_their_rewards_is_hidden_from_vw() -> None:
    policy = learned(stream_of(30, 300))
    features = random_features(np.random.default_rng(31), 30)
    other = Features(features.shared, features.actions.copy(), features.keys)
    names = ("reward_mean", "reward_sd", "item_evidence")
    hidden = [N_STATIC + DYNAMIC.index(name) for name in names]
    other.actions[:, hidden] += 1.0
    scores = policy.score(context_of(features))
    assert policy.score(context_of(other)).tobytes() == scores.tobytes()
    seen = N_STATIC + DYNAMIC.index("popularity")
    other.actions[:, seen] += 1.0
    assert (policy.score(context_of(other)) != scores).all()
    one = interaction_of(random_features(np.random.default_rng(32), 1))
    halves_of = np.frombuffer(one.action, "<f2").copy()
    halves_of[hidden] = 3.0
    two = msgspec.structs.replace(one, action=halves_of.tobytes())
    assert learned([one]).to_bytes() == learned([two]).to_bytes()


def test_optimism_favours_what_little_is_known_of_and_most_before_a_newcomer() -> None:
    policy = HybridBandit(
        HybridBanditArgs(optimism=1.0, newcomer_optimism=1.0, newcomer_evidence=10.0)
    )
    one = random_features(np.random.default_rng(33), 1)
    known = msgspec.structs.replace(interaction_of(one), item_key=1)
    policy.learn([known] * 50)
    keys = np.array([1, 2], dtype=np.uint64)
    gaps = []
    for evidence in (0.0, 10.0, 1e6):
        shared = np.zeros(N_SHARED, dtype=np.float32)
        shared[SHARED.index("evidence")] = math.log1p(evidence) / 5.0
        context = context_of(Features(shared, np.zeros((2, N_ACTION), np.float32), keys))
        gaps.append(np.diff(policy.score(context) - policy.predict(context))[0])
    assert np.array(gaps) / gaps[2] == pytest.approx([2.0, 1.5, 1.0], rel=1e-3)
    assert gaps[2] > 0.0


def test_optimism_is_no_part_of_what_is_learned_and_a_scorer_keeps_its_own() -> None:
    bold, timid = HybridBanditArgs(optimism=3.0), HybridBanditArgs(optimism=0.0)
    policy = learned(stream_of(34, 100), bold)
    again = HybridBandit.from_bytes(policy.to_bytes(), timid, 1)
    assert again.to_bytes() == policy.to_bytes()
    context = context_of(random_features(np.random.default_rng(35), 10))
    assert again.score(context).tobytes() == policy.predict(context).tobytes()
    scorer = HybridBanditScorer.from_bytes(policy.frozen(1).to_bytes(), timid.explorer, 1)
    assert scorer.score(context).tobytes() == policy.score(context).tobytes()
    with pytest.raises(ValueError, match=r"expected a model learned under .* item_sd=0.5"):
        HybridBandit.from_bytes(policy.to_bytes(), HybridBanditArgs(item_sd=0.5), 1)
    with pytest.raises(ValueError, match=r"expected a model learned under .* match_sd=0.5"):
        HybridBandit.from_bytes(policy.to_bytes(), HybridBanditArgs(match_sd=0.5), 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bits": 40}, "bits must be in \\[8, 28\\], got 40"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"power_t": 1.5}, "power_t must be in \\[0, 1\\], got 1.5"),
        ({"clip_p": -0.1}, "clip_p must be in \\[0, 1\\], got -0.1"),
        ({"main_sd": 0.0}, "main_sd must be in \\(0, 1e3\\], got 0.0"),
        ({"match_sd": -0.1}, "match_sd must be in \\(0, 1e3\\], got -0.1"),
        ({"main_memory": 0.5}, "main_memory must be in \\[1, 1e9\\], got 0.5"),
        ({"item_sd": 0.0}, "item_sd must be in \\(0, 10\\], got 0.0"),
        ({"item_memory": 0.5}, "item_memory must be in \\[1, 1e6\\], got 0.5"),
        ({"optimism": math.nan}, "optimism must be in \\[0, 100\\], got nan"),
        ({"newcomer_optimism": -1.5}, "newcomer_optimism must be in \\[-1, 100\\], got -1.5"),
        ({"newcomer_evidence": 0.0}, "newcomer_evidence must be above 0, got 0.0"),
    ],
)
def test_arguments_out_of_range_are_refused(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridBanditArgs(**changed)  # type: ignore[arg-type]


def test_the_text_of_a_page_parses_to_the_features_that_are_learned() -> None:
    features = random_features(np.random.default_rng(20), 3)
    parser = TextFormatParser(Workspace(HybridBanditArgs().command()))
    layout, mask = make_layout(18), (1 << 18) - 1
    shared, *actions = (parser.parse_line(line) for line in features_text(features))
    some = np.flatnonzero(features.shared)
    assert [i & mask for i in shared["U"].indices] == layout.shared[some].tolist()
    np.testing.assert_allclose(shared["U"].values, features.shared[some], rtol=1e-6)
    for row, action in enumerate(actions):
        some = np.setdiff1d(np.flatnonzero(features.actions[row]), OWN_REWARDS)
        assert [i & mask for i in action["A"].indices] == layout.action[some].tolist()
        np.testing.assert_allclose(action["A"].values, features.actions[row, some], rtol=1e-6)


def test_features_of_an_interaction_are_those_of_the_page_s_chosen_row() -> None:
    features = random_features(np.random.default_rng(21), 4)
    chosen = features_of(interaction_of(features, 2))
    np.testing.assert_array_equal(chosen.shared, features.shared)
    np.testing.assert_array_equal(chosen.actions, features.actions[2:3])
    np.testing.assert_array_equal(chosen.keys, features.keys[2:3])


@pytest.mark.slow
def test_the_policy_learns_to_beat_uniform_while_it_explores() -> None:
    """In worlds of 500 items: linear in the features, and an effect of each item's own.

    The best of 50 candidates is some 55% better than their mean; rewards are noisy, 0 or 1. What
    is gained differs from world to world by far more than the cards of one world show, so the
    standard error is that between worlds.
    """
    gains, regrets = np.array([learn_a_world(seed) for seed in range(22, 25)]).T
    assert 0.4 < regrets.mean() < 0.7
    assert gains.mean() > 0.3 * regrets.mean()
    assert gains.mean() > 3.0 * gains.std(ddof=1) / math.sqrt(len(gains))


def learn_a_world(seed: int) -> tuple[float, float]:
    """Return the gain over uniform in the second half of the decisions, and the greatest one."""
    rng = np.random.default_rng(seed)
    n_items, n_candidates, n_decisions = 500, 50, 1_200
    blocks = rng.normal(size=(n_items, N_ACTION)).astype(np.float16).astype(np.float32)
    keys = rng.integers(0, 2**64, n_items, dtype=np.uint64)
    slope = rng.normal(scale=0.085 / math.sqrt(N_ACTION), size=N_ACTION)
    taste = rng.normal(scale=0.085 / math.sqrt(N_ACTION), size=N_ACTION)
    effect = rng.normal(scale=0.085, size=n_items)
    policy, batch, gains, regrets = HybridBandit(), list[Interaction](), [], []
    everybody = np.ones(n_candidates, dtype=np.bool_)
    for decision in range(n_decisions):
        some = rng.choice(n_items, n_candidates, replace=False)
        shared = rng.uniform(-1.0, 1.0, N_SHARED).astype(np.float16).astype(np.float32)
        features = Features(shared, blocks[some], keys[some])
        expected = np.clip(0.5 + blocks[some] @ (slope + shared[0] * taste) + effect[some], 0, 1)
        rule = SlotRule(everybody, everybody)
        page = fill_page(context_of(features), policy, [rule], eps=0.02, seed=decision)
        action = page.decisions[0].action
        batch.append(
            interaction_of(
                features,
                action,
                reward=float(rng.random() < expected[action]),
                propensity=page.decisions[0].propensity,
                n_actions=n_candidates,
            )
        )
        if len(batch) == 100:
            policy.learn(batch)
            batch = []
        gains.append(expected[action] / expected.mean() - 1.0)
        regrets.append(expected.max() / expected.mean() - 1.0)
    return float(np.mean(gains[n_decisions // 2 :])), float(np.mean(regrets))
