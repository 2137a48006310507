"""A real server serves the blend to simulated users, and its log proves every decision."""

import asyncio
from pathlib import Path

import msgspec
from random_rankers import random_ranker

from env.columns.schema import SHARED
from env.interface import page_pmfs
from env.pages.records import Blocks
from env.records import PageRecord
from env.world import generated
from policies.bandit.scorer import HybridBanditScorer
from serve.config import Arm, ClockSettings, Config, DataSettings, Experiment, ServerSettings
from serve.jobs.import_data import import_items
from serve.jobs.verify import verify_log
from serve.learn.rankers import publish_ranker
from serve.learn.settings import open_snapshots
from serve.processes.start import serving
from serve.store.open import open_store
from serve.swarm.run import swipe_cards

START_MS = 1_800_000_000_000
EVIDENCE = SHARED.index("evidence")
N_CARDS = 900


def test_a_blended_feed_is_served_over_http_and_every_decision_is_drawn_again(
    tmp_path: Path,
) -> None:
    base = Config()
    config = msgspec.structs.replace(
        base,
        server=ServerSettings(port=0),
        data=DataSettings(str(tmp_path / "data")),
        clock=ClockSettings(simulated=True),
        experiment=Experiment("one", (Arm("all", "blend"),)),
        retention=msgspec.structs.replace(base.retention, item_half=1.0, person_half=2.0),
        learner=msgspec.structs.replace(base.learner, bits=12, snapshots_kept=1_000),
    )
    import_items(config, generated.catalogue(1, 300, START_MS), START_MS)
    publish_ranker(config, random_ranker(1).to_bytes(), origin="random")

    with serving(config, with_ray=False) as address:
        _swipe(config, address, 1)
        publish_ranker(config, random_ranker(2).to_bytes(), origin="random")
        _swipe(config, address, 2)

    verified = verify_log(config)
    assert verified.is_clean, verified
    assert verified.n_decisions >= 2 * N_CARDS
    _check_pages(config)


def _swipe(config: Config, address: str, seed: int) -> None:
    tally = asyncio.run(
        swipe_cards(
            config,
            address,
            n_cards=N_CARDS,
            n_present=20,
            seed=seed,
            now_ms=START_MS + seed * 86_400_000,
            advance=lambda n: None,
        )
    )
    assert (tally.errors, tally.refused) == (0, 0)


def _check_pages(config: Config) -> None:
    """Both rankers were served, and who was new got the bandit's probabilities to the last bit."""
    blocks, rankers, n_new, n_moved = Blocks(), set[object](), 0, 0
    with open_store(config, lambda: 0) as store:
        for line in store.log.read():
            blocks.fold(line.record)
            if not isinstance(line.record, PageRecord):
                continue
            record, page = line.record, blocks.page(line.record)
            assert record.policy.startswith("blend@")
            rankers.add(record.explorer["ranker"])
            version = int(record.policy.partition("@")[2])
            if not version:
                continue  # before anything was learned, all candidates are alike to the bandit
            data = open_snapshots(config).load_part(version, "scorer")
            bandit = HybridBanditScorer.from_bytes(data, config.feed.explorer, version)
            is_same = all(pmf[d.action] == d.propensity for d, pmf in page_pmfs(page, bandit))
            is_new = page.context.features.shared[EVIDENCE] == 0.0
            assert is_same or not is_new
            n_new, n_moved = n_new + is_new, n_moved + (not is_same)
    assert rankers == {1, 2}
    assert n_new > 5
    assert n_moved > 20
