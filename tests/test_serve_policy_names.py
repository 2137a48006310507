from pathlib import Path

import pytest

from env.interface import Policy
from policies.baselines import mixture_policy
from serve.config import Arm, Config, Data, Experiment, Mixture
from serve.policy_names import find_policy, find_stranger
from serve.refused import Refused
from serve.stores import open_store


def found(folder: Path, name: str, *arms: Arm) -> Policy:
    config = Config(data=Data(str(folder)), experiment=Experiment(arms=arms or Experiment().arms))
    with open_store(config, lambda: 0) as store:
        return find_policy(config, store, name)


@pytest.mark.parametrize("name", ["mixture", "mixture@0"])
def test_the_mixture_is_the_one_of_the_experiment_or_the_default_one(
    name: str, tmp_path: Path
) -> None:
    halves, usual = Arm("a", "mixture", mixture=Mixture(0.5, 2.0)), Arm("b", "mixture")
    assert found(tmp_path, name).explorer == mixture_policy(0.2).explorer
    assert found(tmp_path, name, usual).name == "mixture@0"
    assert found(tmp_path, name, halves).explorer == mixture_policy(0.5, 2.0).explorer
    with pytest.raises(Refused, match="one mixture in the experiment's arms, got several"):
        found(tmp_path, name, halves, usual)
    spelt_out = Arm("c", "mixture", mixture=Mixture())
    assert found(tmp_path, name, usual, spelt_out).explorer == mixture_policy(0.2).explorer


def test_popularity_is_asked_about_our_own_log_only(tmp_path: Path) -> None:
    assert found(tmp_path, "popularity").name == found(tmp_path, "popularity@0").name
    assert find_stranger("uniform").name == "uniform@0"
    for name in ("popularity", "popularity@0", "mixture", "vowpal"):
        with pytest.raises(Refused, match="first, behaviour, uniform or MODULE:FUNCTION, got "):
            find_stranger(name)
    with pytest.raises(Refused, match="vowpal@VERSION or MODULE:FUNCTION, got 'best'"):
        found(tmp_path, "best")
