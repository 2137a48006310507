import numpy as np
import pytest

from env.twin.model import N_ACTIONS, N_STATES, START, MiniConstants, MiniModel
from env.twin.policies import myopic, normalised_score, reference_policies, shares_of_optimum
from env.twin.solve import OBJECTIVES, DynamicProgramme, MiniObjective, greedy, improve

PROGRAMME = DynamicProgramme.of(MiniModel.of(MiniConstants()))
POLICIES = reference_policies(PROGRAMME)

# Shares of the optimum, "watch" and "days", as published with three digits.
PUBLISHED = {
    "optimal for watch": (1.000, 0.989),
    "optimal for days": (None, 1.000),
    "random": (0.703, 0.946),
    "myopic": (0.690, 0.753),
    "session optimal": (0.690, 0.753),
    "nourish same": (0.256, 0.937),
    "nourish diverse": (0.421, 0.981),
    "bait same": (0.389, 0.735),
    "bait diverse": (0.665, 0.753),
}


def test_the_published_table_is_met_to_its_last_digit() -> None:
    shares = shares_of_optimum(PROGRAMME)
    assert set(shares) == set(PUBLISHED)
    for name, published in PUBLISHED.items():
        for objective, expected in zip(OBJECTIVES, published, strict=True):
            if expected is not None:
                assert abs(shares[name][objective] - expected) <= 0.0005 + 1e-9, (name, objective)


def test_the_optimum_is_the_published_one() -> None:
    assert abs(PROGRAMME.value(POLICIES["optimal for watch"], "watch") - 9523.0) < 0.5
    assert abs(PROGRAMME.value(POLICIES["optimal for days"], "days") - 20.60) < 0.005


def test_the_watch_time_of_the_optimum_for_days_hangs_on_its_ties() -> None:
    """Published as .870; the policies that are equally good on days have .839 to .875."""
    onward, watch = PROGRAMME.transitions(), PROGRAMME.rewards("watch")
    ties = PROGRAMME.best_actions("days")
    assert (ties.sum(axis=1) > 1).sum() == 88
    best = PROGRAMME.value(POLICIES["optimal for watch"], "watch")
    least, most = (
        PROGRAMME.value(greedy(improve(onward, sign * watch, ties)), "watch") / best
        for sign in (-1.0, 1.0)
    )
    assert abs(least - 0.839) < 0.0005
    assert abs(most - 0.875) < 0.0005
    assert least < 0.870 < most


def test_ties_go_to_the_other_objective() -> None:
    share = shares_of_optimum(PROGRAMME)["optimal for days"]["watch"]
    assert abs(share - 0.8748) < 0.00005


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_beats_the_optimum_anywhere(objective: MiniObjective) -> None:
    best = PROGRAMME.evaluate(PROGRAMME.optimal(objective))[objective]
    rng = np.random.default_rng(0)
    others = [rng.dirichlet(np.ones(N_ACTIONS), N_STATES) for _ in range(5)]
    for policy in (*POLICIES.values(), *others):
        assert (PROGRAMME.evaluate(policy)[objective] <= best * (1.0 + 1e-9)).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_values_solve_bellmans_equation_one_card_at_a_time(objective: MiniObjective) -> None:
    """The equation spelled out by state, action and outcome, without the programme's matrices."""
    model, policy = PROGRAMME.model, POLICIES["random"]
    value = PROGRAMME.evaluate(policy)[objective]
    c = model.constants
    for state in (START, 0, 335, 16 * 16 + 2 * 4 + 3, 3 * 16 + 3 * 4 + 1):
        total = 0.0
        for action in range(N_ACTIONS):
            q = model.watch_s[state, action] if objective == "watch" else 0.0
            for moved, bored in ((0, 0), (0, 1), (1, 0), (1, 1)):
                move, bore = model.move[state, action], model.bored[state, action]
                chance = (move if moved else 1 - move) * (bore if bored else 1 - bore)
                level = state // 16 + model.direction[action] * moved - bored
                level = min(max(int(level), 0), 20)
                p, gamma, alive = model.comeback[level], c.day_discount, 1 - model.churn[level]
                later = sum(gamma**d * p * (1 - p) ** (d - 1) for d in range(1, 200)) * alive
                inward = level + (level < 10) - (level > 10)
                rested = c.relax * value[inward * 16] + (1 - c.relax) * value[level * 16]
                bonus = 1.0 if objective == "days" else 0.0
                leave = model.exit[state, action]
                q += chance * (1 - leave) * value[level * 16 + model.pulse[state, action]]
                q += chance * leave * later * (bonus + rested)
            total += policy[state, action] * q
        assert abs(total - value[state]) < 1e-8 * value[state]


def test_seeing_to_the_end_of_a_session_is_seeing_nothing() -> None:
    """Only credit across sessions wins: the best policy for a session is the myopic one."""
    assert np.array_equal(POLICIES["session optimal"], POLICIES["myopic"])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_scores_are_0_for_the_myopic_and_1_for_the_optimum(objective: MiniObjective) -> None:
    assert normalised_score(PROGRAMME, myopic(PROGRAMME), objective) == 0.0
    assert normalised_score(PROGRAMME, PROGRAMME.optimal(objective), objective) == 1.0


def test_a_score_can_be_below_0() -> None:
    assert normalised_score(PROGRAMME, POLICIES["nourish same"], "watch") < -1.0


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="objective must be one of watch, days, got 'likes'"):
        PROGRAMME.rewards("likes")  # type: ignore[arg-type]
