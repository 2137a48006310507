"""The module that RLlib trains: its forms of observation, its mask, its values, and its export."""

from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import pytest
import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical

from env.gym.registration import register_envs
from env.vocabulary import Float32s, Floats
from policies.ranker.ranker import Ranker, RankerArgs
from policies.training.export import export, load, make_module, torch_scores
from policies.training.layout import ObservationLayout, Scaling
from policies.training.module import ModuleConfig, RankerModule
from policies.training.networks import MASKED
from tests.studies.retention.ranker import random_ranker

LAYOUT = ObservationLayout(n_user=6, n_candidates=5, n_item=4, n_personal=3)
FIXED = ObservationLayout.fixed(3, 4)


def make(layout: ObservationLayout = LAYOUT, seed: int = 1) -> RankerModule:
    """Return a module whose logits and values are not next to nothing."""
    module = make_module(ModuleConfig.of(layout, hidden=16, embed=8), seed=seed)
    load(module, random_ranker(module.settings.args, np.random.default_rng(seed)))
    return module


def observation(seed: int, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    mask = rng.random((n, 5)) < 0.6
    mask[:, 2] = True
    return {
        "user": rng.normal(size=(n, 6)).astype(np.float32),
        "item": rng.normal(size=(n, 5, 4)).astype(np.float32),
        "personal": rng.normal(size=(n, 5, 3)).astype(np.float32),
        "mask": mask.astype(np.int8),
    }


def flat(observed: dict[str, Any]) -> Float32s:
    n = len(observed["user"])
    return np.hstack([observed[part].reshape(n, -1) for part in ("user", "item", "personal")])


def batch(observed: dict[str, Any] | Float32s) -> dict[str, Any]:
    if isinstance(observed, dict):
        return {Columns.OBS: {name: torch.from_numpy(a) for name, a in observed.items()}}
    return {Columns.OBS: torch.from_numpy(observed)}


def logits(module: RankerModule, observed: dict[str, Any] | Float32s) -> Floats:
    out = module.forward_inference(batch(observed))[Columns.ACTION_DIST_INPUTS]
    return np.asarray(out.numpy(), dtype=np.float64)


def values(module: RankerModule, observed: dict[str, Any] | Float32s) -> Floats:
    with torch.no_grad():
        return np.asarray(module.compute_both_values(batch(observed)).numpy(), dtype=np.float64)


# --- observations ---------------------------------------------------------------------------------


def test_a_flat_observation_and_a_dict_that_allows_all_are_the_same() -> None:
    module, observed = make(), observation(1, 50)
    observed["mask"][:] = 1
    assert logits(module, flat(observed)) == pytest.approx(logits(module, observed), abs=1e-6)
    assert values(module, flat(observed)) == pytest.approx(values(module, observed), abs=1e-6)


def test_fixed_candidates_are_the_one_hot_rows() -> None:
    module = make(FIXED)
    user = np.random.default_rng(2).random((20, 3)).astype(np.float32)
    rows = np.broadcast_to(np.eye(4, dtype=np.float32), (20, 4, 4)).copy()
    assert logits(module, user) == pytest.approx(torch_scores(module, user, rows), abs=1e-6)
    assert values(module, user).shape == (20, 2)


@pytest.mark.parametrize("form", ["dict", "flat", "fixed"])
def test_the_exported_ranker_scores_whatever_was_observed_as_the_module_does(form: str) -> None:
    module = make(FIXED if form == "fixed" else LAYOUT)
    observed: dict[str, Any] | Float32s = observation(3, 40)
    if form == "flat":
        observed = flat(observation(3, 40))
    elif form == "fixed":
        observed = np.random.default_rng(3).random((40, 3)).astype(np.float32)
    user, rows, mask = module.settings.layout.arrays(observed)
    expected = np.where(mask, export(module).batch_scores(user, rows), MASKED)
    assert np.abs(logits(module, observed) - expected)[mask].max() < 1e-5
    assert (logits(module, observed)[~mask] == MASKED).all()
    assert mask.all() == (form != "dict")


@pytest.mark.parametrize(("n_candidates", "obs"), [(5, "dict"), (5, "flat"), (12, "dict")])
def test_the_simulated_world_is_observed_in_either_form(n_candidates: int, obs: str) -> None:
    register_envs()
    world = gym.make("nextswipe/Swipe-v0", n_candidates=n_candidates)
    layout = ObservationLayout.of(world.observation_space)
    assert layout.n_candidates == n_candidates
    observed, _ = gym.make("nextswipe/Swipe-v0", n_candidates=n_candidates, obs=obs).reset(seed=1)
    if isinstance(observed, dict):
        one = {name: np.asarray(part)[None] for name, part in observed.items()}
        assert logits(make(layout), one).shape == (1, n_candidates)
    else:
        assert observed.shape == (layout.n_flat,)
        assert logits(make(layout), observed[None]).shape == (1, n_candidates)


def test_a_flat_observation_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="expected observations of 41 columns, got 40"):
        LAYOUT.cut(np.zeros((2, 40), np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_user": 0, "n_candidates": 2, "n_item": 2}, "at least one column"),
        ({"n_user": 1, "n_candidates": 0, "n_item": 2}, "at least one column"),
        ({"n_user": 1, "n_candidates": 2, "n_item": 2, "n_personal": -1}, "at least one column"),
        ({"n_user": 1, "n_candidates": 2, "n_item": 3, "is_fixed": True}, "one-hot rows of 2"),
    ],
)
def test_a_layout_that_is_none_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObservationLayout(**fields)


# --- the mask and the values ----------------------------------------------------------------------


def test_a_candidate_off_the_mask_is_never_drawn_and_changes_nothing() -> None:
    module, observed = make(), observation(4, 200)
    changed = {name: part.copy() for name, part in observed.items()}
    off = observed["mask"] == 0
    changed["item"][off], changed["personal"][off] = 9.0, -9.0
    assert (logits(module, observed)[off] == MASKED).all()
    assert np.array_equal(logits(module, observed), logits(module, changed))
    assert np.array_equal(values(module, observed), values(module, changed))
    pmf = TorchCategorical.from_logits(torch.from_numpy(logits(module, observed)))
    drawn = np.array([pmf.sample().numpy() for _ in range(20)])
    assert observed["mask"][np.arange(200), drawn].all()


def test_values_do_not_depend_on_the_order_of_candidates() -> None:
    module, observed = make(), observation(5, 50)
    order = np.random.default_rng(5).permutation(5)
    other = {**observed, **{n: observed[n][:, order] for n in ("item", "personal", "mask")}}
    assert values(module, other) == pytest.approx(values(module, observed), abs=1e-5)
    assert logits(module, other)[:, :] == pytest.approx(
        logits(module, observed)[:, order], abs=1e-5
    )


def test_values_are_finite_where_no_candidate_is_left() -> None:
    observed = observation(6, 3)
    observed["mask"][:] = 0
    assert np.isfinite(values(make(), observed)).all()


def test_the_value_of_the_objective_is_the_first_of_both() -> None:
    module, observed = make(), observation(7, 10)
    with torch.no_grad():
        assert np.array_equal(
            module.compute_values(batch(observed)).numpy(), values(module, observed)[:, 0]
        )


def test_a_loss_of_the_policy_moves_the_scorer_only_and_one_of_values_the_critic_only() -> None:
    for moved, still in (("scorer", "critic"), ("critic", "scorer")):
        module, observed = make(), observation(8, 30)
        if moved == "scorer":
            out = module.forward_train(batch(observed))[Columns.ACTION_DIST_INPUTS]
            TorchCategorical.from_logits(out).logp(torch.full((30,), 2)).mean().backward()
        else:
            module.compute_both_values(batch(observed)).square().mean().backward()
        assert all(p.grad is not None and p.grad.any() for p in getattr(module, moved).parameters())
        assert all(p.grad is None for p in getattr(module, still).parameters())


def test_the_first_policy_is_nearly_uniform() -> None:
    module = make_module(ModuleConfig.of(LAYOUT), seed=1)
    observed = observation(9, 100)
    observed["mask"][:] = 1
    assert np.abs(logits(module, observed)).max() < 0.1


# --- configuration and export ---------------------------------------------------------------------


def test_the_seed_decides_the_weights_and_torch_s_own_stream_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    config = ModuleConfig.of(LAYOUT)
    first, again, other = (export(make_module(config, seed=s)).to_bytes() for s in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_is_made_again_from_its_model_config_and_its_state() -> None:
    module, observed = make(), observation(10, 20)
    again = RankerModule(
        observation_space=module.observation_space,
        action_space=module.action_space,
        model_config={**module.model_config, "vf_share_layers": False},  # as RLlib adds to it
    )
    again.set_state(module.get_state())
    assert np.array_equal(logits(again, observed), logits(module, observed))
    assert np.array_equal(values(again, observed), values(module, observed))
    assert isinstance(again.action_space, spaces.Discrete)


def test_columns_are_scaled_inside_and_the_scaling_travels_with_the_weights() -> None:
    observed = observation(11, 500)
    user, rows, _ = LAYOUT.arrays(observed)
    rows = rows.reshape(-1, LAYOUT.n_row)
    far_user, far_rows = 50.0 + 20.0 * user, -3.0 + 0.1 * rows
    config = ModuleConfig.of(
        LAYOUT, user_scaling=Scaling.of(far_user), item_scaling=Scaling.of(far_rows)
    )
    near = ModuleConfig.of(LAYOUT, user_scaling=Scaling.of(user), item_scaling=Scaling.of(rows))
    far = export(make_module(config, seed=1))
    scores = far.batch_scores(far_user, far_rows.reshape(500, 5, -1))
    expected = export(make_module(near, seed=1)).batch_scores(user, rows.reshape(500, 5, -1))
    assert scores == pytest.approx(expected, abs=1e-5)
    assert far.tensors["user.shift"] == pytest.approx(far_user.mean(axis=0), rel=1e-5)


def test_a_column_that_never_varies_is_not_blown_up() -> None:
    assert Scaling.of(np.full((9, 1), 3.0, np.float32)) == Scaling((3.0,), (1.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_user": 9}, r"as many columns .* got \(9, 7\), in the layout \(6, 7\)"),
        ({"n_item": 4}, r"as many columns .* got \(6, 4\)"),
        ({"user_scaling": Scaling.none(2)}, r"in the scaling \(2, 7\)"),
        ({"hidden": 0}, "hidden must be from 1"),
        ({"layout": None}, "layout"),
    ],
)
def test_a_model_config_that_contradicts_itself_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    config = {**ModuleConfig.of(LAYOUT).to_dict(), **msgspec.to_builtins(changes)}
    with pytest.raises(ValueError, match=message):
        RankerModule(
            observation_space=spaces.Box(-1, 1, (41,)),
            action_space=spaces.Discrete(5),
            model_config=config,
        )


@pytest.mark.parametrize(
    ("shift", "scale", "message"),
    [
        ((0.0,), (1.0, 1.0), "expected 1 scales, got 2"),
        ((float("nan"),), (1.0,), "shift must be finite"),
        ((0.0,), (0.0,), "scale must be above 0"),
        ((0.0,), (float("inf"),), "scale must be above 0 and finite"),
    ],
)
def test_what_does_not_scale_is_refused(
    shift: tuple[float, ...], scale: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Scaling(shift, scale)


def test_weights_that_are_not_finite_are_not_exported() -> None:
    module = make()
    with torch.no_grad():
        module.scorer.head.outer.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"head.outer.weight: expected finite"):
        export(module)


def test_an_exported_ranker_does_not_move_with_the_module() -> None:
    module, observed = make(), observation(12, 10)
    ranker = export(module)
    user, rows, _ = LAYOUT.arrays(observed)
    before = ranker.batch_scores(user, rows)
    with torch.no_grad():
        for weight in module.scorer.parameters():
            weight.zero_()
    assert np.array_equal(ranker.batch_scores(user, rows), before)


def test_a_ranker_of_another_shape_is_not_loaded() -> None:
    ranker: Ranker = random_ranker(RankerArgs(6, 7, 16, 4), np.random.default_rng(1))
    with pytest.raises(ValueError, match=r"expected a ranker of .*embed=8.*, got .*embed=4"):
        load(make(), ranker)
