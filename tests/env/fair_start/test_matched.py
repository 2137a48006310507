"""The matched baseline: exact, blind to the item, and the same wherever it was interrupted."""

import msgspec
import numpy as np
import pytest
from builders import interaction

from env.columns.schema import N_ACTION, N_SHARED, action_index, index_of, quantise
from env.fair_start.baseline import (
    CONTROL_COLUMNS,
    MATCH_COLUMNS,
    N_COLUMNS,
    PERSON_COLUMNS,
    MatchedBaseline,
)
from env.records import pack_halves, unpack_halves
from env.vocabulary import Float32s, Interaction

PERSON = [index_of(column) for column in PERSON_COLUMNS]
MATCH = [action_index(column) for column in MATCH_COLUMNS]
CONTROL = [action_index(column) for column in CONTROL_COLUMNS]


def met(shared: Float32s, action: Float32s, reward: float = 0.0) -> Interaction:
    return msgspec.structs.replace(
        interaction("a", reward=reward), shared=pack_halves(shared), action=pack_halves(action)
    )


def a_stream(n: int, seed: int = 2, noise: float = 0.7) -> tuple[list[Interaction], list[float]]:
    """Return interactions with a reward linear in the columns, and what was to be expected."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, 0.3, N_COLUMNS)
    stream, expected = [], []
    for _ in range(n):
        shared = quantise(rng.normal(0.0, 1.0, N_SHARED))
        action = quantise(rng.normal(0.0, 1.0, N_ACTION))
        mean = weights[0] + float(np.concatenate([shared[PERSON], action[MATCH]]) @ weights[1:])
        stream.append(met(shared, action, mean + float(rng.normal(0.0, noise))))
        expected.append(mean)
    return stream, expected


def folded(stream: list[Interaction], baseline: MatchedBaseline | None = None) -> MatchedBaseline:
    baseline = MatchedBaseline() if baseline is None else baseline
    for each in stream:
        baseline.fold(each)
    return baseline


def test_columns_are_in_the_order_of_the_encoding() -> None:
    assert sorted(PERSON) == PERSON
    assert sorted(MATCH) == MATCH


def test_nothing_is_expected_before_there_is_evidence() -> None:
    assert MatchedBaseline().expect(a_stream(1)[0][0]) == 0.0


def test_it_finds_what_an_ordinary_item_earns_within_its_standard_error() -> None:
    noise, n = 0.7, 4096
    stream, expected = a_stream(n + 500, noise=noise)
    baseline = folded(stream[:n])
    errors = np.array([baseline.expect(each) for each in stream[n:]]) - np.array(expected[n:])
    # Of least squares with p columns of independent noise: a mean square of noise^2 p / n.
    allowed = noise**2 * N_COLUMNS / n
    assert float(np.mean(errors**2)) < allowed * (1.0 + 4.0 * np.sqrt(2.0 / N_COLUMNS))


def test_it_is_the_exact_ridge_solution() -> None:
    stream, _ = a_stream(512)
    columns = [*MATCH, *CONTROL]
    rows = np.array(
        [[1.0, *unpack_halves(i.shared)[PERSON], *unpack_halves(i.action)[columns]] for i in stream]
    )
    rewards = np.array([i.reward for i in stream])
    prior = np.diag([0.01] + [1.0] * (rows.shape[1] - 1))
    weights = np.linalg.solve(rows.T @ rows + prior, rows.T @ rewards)
    baseline = folded(stream)
    rows[:, N_COLUMNS:] = rows[:, N_COLUMNS:].mean(axis=0)
    assert [baseline.expect(i) for i in stream[:50]] == pytest.approx(rows[:50] @ weights)


def test_a_match_is_worth_the_same_where_poor_matches_are_shown_for_being_good() -> None:
    rng, n, worth, noise = np.random.default_rng(4), 8192, 0.5, 0.3
    good, match = rng.normal(0.0, 0.3, 8 * n), rng.normal(0.0, 0.5, 8 * n)
    chosen = np.flatnonzero(good + worth * match > 0.3)[:n]
    assert len(chosen) == n
    rewards = good + worth * match + rng.normal(0.0, noise, 8 * n)
    baseline, shared = MatchedBaseline(), np.zeros(N_SHARED, dtype=np.float32)

    def of(matched: float, known: float, reward: float = 0.0) -> Interaction:
        action = np.zeros(N_ACTION, dtype=np.float32)
        action[MATCH[0]], action[CONTROL] = matched, known
        return met(shared, quantise(action), reward)

    for k in chosen.tolist():
        baseline.fold(of(float(match[k]), float(good[k]), float(rewards[k])))
    found = baseline.expect(of(1.0, 0.0)) - baseline.expect(of(0.0, 0.0))
    of_good = np.polyfit(good[chosen], match[chosen], 1)
    left = match[chosen] - np.polyval(of_good, good[chosen])
    assert abs(found - worth) < 4.0 * noise / np.sqrt(float(left @ left)) + 0.001
    alone = np.polyfit(match[chosen], rewards[chosen], 1)[0]
    assert alone < 0.6 * worth, "what leaving it out comes to"


def test_the_item_itself_changes_nothing_of_what_is_expected() -> None:
    stream, _ = a_stream(300)
    baseline, one = folded(stream), stream[7]
    shared, action = unpack_halves(one.shared), unpack_halves(one.action)
    others = [k for k in range(N_ACTION) if k not in MATCH]
    action[others] = 3.0
    other = msgspec.structs.replace(met(shared, action), item_id="b", item_key=9)
    assert baseline.expect(other) == baseline.expect(one)
    action[MATCH] += 1.0
    assert baseline.expect(met(shared, action)) != baseline.expect(one)


def test_without_features_the_mean_reward_is_expected() -> None:
    baseline = folded([interaction("a", reward=r) for r in (0.0, 1.0, 2.0, 1.0) * 64])
    assert baseline.expect(interaction("b")) == pytest.approx(1.0, abs=1e-3)


def test_the_same_stream_gives_the_same_bytes_wherever_it_is_interrupted() -> None:
    stream, _ = a_stream(700)
    whole = folded(stream)
    for stop in (0, 1, 100, 256, 511, 700):
        resumed = MatchedBaseline.from_bytes(folded(stream[:stop]).to_bytes())
        assert folded(stream[stop:], resumed).to_bytes() == whole.to_bytes()
        assert resumed.expect(stream[0]) == whole.expect(stream[0])
        assert len(resumed) == 700


def test_a_baseline_of_other_columns_is_refused() -> None:
    fields = msgspec.msgpack.decode(folded(a_stream(3)[0]).to_bytes())
    fields[3] = fields[3][:-1]
    with pytest.raises(ValueError, match=f"expected a baseline of {N_COLUMNS} columns, got 14"):
        MatchedBaseline.from_bytes(msgspec.msgpack.encode(fields))
    with pytest.raises(msgspec.DecodeError):
        MatchedBaseline.from_bytes(b"\x01")
