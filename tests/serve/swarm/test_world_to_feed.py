"""From the simulated world to a feed's page: a ranker trained on the feed's columns is served."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from serve.store.open import open_store

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

from histories import HALVES, config_of, make_history

from env.columns.schema import N_ACTION, N_SHARED, SHARED
from env.records import PageRecord
from policies.ranker.ranker import Ranker
from policies.training.layout import Scaling
from policies.training.settings import FeedWorld, RetentionArgs
from serve.config import Arm, Config
from serve.jobs.train_ppo import train_retention
from serve.jobs.verify import verify_log
from serve.learn.rankers import publish_ranker

WORLD = FeedWorld(n_candidates=8, horizon_days=4, columns="feed")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """Return the ranker of a training that is far too short."""
    args = msgspec.structs.replace(
        RetentionArgs.of_feed(WORLD, seed=1, n_steps=2_048),
        n_envs=64,
        n_cards=16,
        minibatch=512,
        epochs=1,
        hidden=16,
        embed=8,
    )
    folder = tmp_path_factory.mktemp("training")
    return Ranker.from_file(Path(train_retention(args, folder).ranker))


def settings(folder: Path) -> Config:
    """Return settings under which everybody is served the blend, and known after few cards."""
    blended = msgspec.structs.replace(HALVES, arms=(Arm("blended", "blend"),))
    config = config_of(folder, blended)
    retention = msgspec.structs.replace(
        config.retention, item_half=2.0, person_half=4.0, explorer=config.feed.explorer
    )
    return msgspec.structs.replace(config, retention=retention)


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
def test_a_ranker_of_the_world_is_published_and_draws_pages_that_can_be_drawn_again(
    trained: Ranker, tmp_path: Path
) -> None:
    assert (trained.args.n_user, trained.args.n_item) == (N_SHARED, N_ACTION)
    config = settings(tmp_path / "data")
    make_history(config, rounds=range(2))
    published = publish_ranker(config, trained.to_bytes(), origin="the simulated world")
    assert published.is_current
    make_history(config, rounds=range(2, 4))
    with open_store(config, lambda: 0) as store:
        records = [line.record for line in store.log.read()]
    pages = [record for record in records if isinstance(record, PageRecord)]
    blended = [page for page in pages if page.policy.startswith("blend@")]
    assert len(blended) == len(pages) // 2 > 10
    assert {page.explorer["ranker"] for page in blended} == {published.version}
    assert verify_log(config).is_clean


@pytest.mark.filterwarnings("ignore")
def test_what_the_world_never_moves_does_not_move_the_ranking(trained: Ranker) -> None:
    rng = np.random.default_rng(0)
    user = rng.normal(size=N_SHARED).astype(np.float32)
    items = rng.normal(size=(8, N_ACTION)).astype(np.float32)
    other = user.copy()
    for name in ("wifi", "android", "app3", "referrer1"):
        other[SHARED.index(name)] += 1.0
    before, after = trained.scores(user, items), trained.scores(other, items)
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_columns_that_stand_still_are_scaled_to_nothing_and_rare_ones_not_blown_up() -> None:
    rows = np.zeros((1_000, 3), dtype=np.float32)
    rows[0, 1], rows[::2, 2] = 1.0, 4.0
    scaling = Scaling.of_known(rows)
    assert scaling.scale[0] < 1e-5
    assert scaling.scale[1] == pytest.approx(10.0)
    assert scaling.scale[2] == pytest.approx(0.5)
