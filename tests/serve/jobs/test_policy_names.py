from pathlib import Path

import pytest

from env.interface import Policy
from policies.baselines import mixture_policy
from serve.config import Arm, Config, DataSettings, Experiment, MixtureSettings
from serve.errors import JobError
from serve.jobs.policies import find_external_policy, find_policy
from serve.store.open import open_store


def found(folder: Path, name: str, *arms: Arm) -> Policy:
    config = Config(
        data=DataSettings(str(folder)), experiment=Experiment(arms=arms or Experiment().arms)
    )
    with open_store(config, lambda: 0) as store:
        return find_policy(config, store, name)


@pytest.mark.parametrize("name", ["mixture", "mixture@0"])
def test_the_mixture_is_the_one_of_the_experiment_or_the_default_one(
    name: str, tmp_path: Path
) -> None:
    halves, usual = Arm("a", "mixture", mixture=MixtureSettings(0.5, 2.0)), Arm("b", "mixture")
    assert found(tmp_path, name).explorer == mixture_policy(0.2).explorer
    assert found(tmp_path, name, usual).name == "mixture@0"
    assert found(tmp_path, name, halves).explorer == mixture_policy(0.5, 2.0).explorer
    with pytest.raises(JobError, match="one mixture in the experiment's arms, got several"):
        found(tmp_path, name, halves, usual)
    spelt_out = Arm("c", "mixture", mixture=MixtureSettings())
    assert found(tmp_path, name, usual, spelt_out).explorer == mixture_policy(0.2).explorer


def test_popularity_is_asked_about_our_own_log_only(tmp_path: Path) -> None:
    assert found(tmp_path, "popularity").name == found(tmp_path, "popularity@0").name
    assert find_external_policy("uniform").name == "uniform@0"
    for name in ("popularity", "popularity@0", "mixture", "vowpal"):
        with pytest.raises(JobError, match="first, behaviour, uniform or MODULE:FUNCTION, got "):
            find_external_policy(name)
    with pytest.raises(JobError, match="vowpal@VERSION or MODULE:FUNCTION, got 'best'"):
        found(tmp_path, "best")
