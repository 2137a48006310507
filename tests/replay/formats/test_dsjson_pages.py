"""Our own log as dsjson: VW reads it, and what is read again is what the log has."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from worlds import LIKES, World, lines

from env.columns.schema import SHARED
from env.interface import Policy
from env.records import PageRecord
from env.vocabulary import Bools, Context, Floats
from policies.baselines import UniformPolicy
from replay.evaluate.targets import PolicyTarget
from replay.formats.dsjson_line import DsjsonDecision
from replay.formats.dsjson_source import DsjsonSource, read_dsjson
from replay.formats.dsjson_write import page_decisions, write_dsjson
from replay.join.our_log import LogSource
from replay.source import Batch, Source
from tests.replay.formats.test_dsjson import vw


@pytest.fixture(scope="module")
def source() -> LogSource:
    """Forty users of whom some pages' policy is not known any more."""
    world = World(rng=np.random.default_rng(7))
    records = list(world.items())
    for _, its in world.pages(UniformPolicy(), n_users=40, pages_each=3, eps=0.1, arm="a"):
        records += its
    pages = [record.page_id for record in records if isinstance(record, PageRecord)]
    kept = UniformPolicy()
    return LogSource(
        lambda: lines(records),
        LIKES,
        behaviour=lambda page: kept if pages.index(page.page_id) % 2 else None,
    )


@pytest.fixture(scope="module")
def written(source: LogSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dsjson") / "log.dsjson"
    with path.open("wb") as file:
        assert sum(write_dsjson(page_decisions(b), file) for b in source.batches()) == len(source)
    return path


def one_batch(source: Source) -> Batch:
    (batch,) = source.batches()
    return batch


def of_chosen(batch: Batch) -> Floats:
    assert batch.pmf is not None
    return batch.of_chosen(batch.pmf)


def test_what_is_read_again_is_what_the_log_has(source: LogSource, written: Path) -> None:
    got, expected = one_batch(DsjsonSource(written)), one_batch(source)
    for name in ("reward", "propensity", "slot", "at_ms", "n_actions", "policy"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)
    np.testing.assert_array_equal(of_chosen(got), of_chosen(expected))
    assert np.isnan(of_chosen(expected)).any()
    assert np.isfinite(of_chosen(expected)).any()
    assert len(np.unique(got.reward)) == 2
    same_user = got.user[:, None] == got.user
    np.testing.assert_array_equal(same_user, expected.user[:, None] == expected.user)


class Second:
    """A policy that takes what it can of the first two candidates that are left."""

    name = "second@1"
    explorer: ClassVar[dict[str, object]] = {}

    def score(self, context: Context) -> Floats:
        return np.zeros(len(context))

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        first = np.flatnonzero(mask)[:2]
        pmf: Floats = np.zeros(len(scores))
        pmf[first] = 1.0 / len(first)
        return pmf


@pytest.mark.parametrize("policy", [UniformPolicy(), Second()])
def test_a_policy_is_the_same_one_on_what_is_read_again(
    policy: Policy, source: LogSource, written: Path
) -> None:
    batch, again = one_batch(source), one_batch(DsjsonSource(written))
    floors = [page.eps for page, _ in batch.pages]
    assert min(floors) > 0.0
    rules = [page.slots[slot] for page, rows in batch.pages for slot in batch.slot[rows]]
    assert any((rule.mask & ~rule.eligible).any() for rule in rules)
    target = PolicyTarget(policy)
    weights = [
        each.of_chosen(target.probabilities(each)) / each.propensity for each in (batch, again)
    ]
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-12)
    assert again.reward @ weights[1] == pytest.approx(batch.reward @ weights[0], rel=1e-12)


def test_a_line_has_the_features_of_what_its_slot_had_left(
    source: LogSource, written: Path
) -> None:
    batch, decisions = one_batch(source), list(read_dsjson(written))
    for page, rows in batch.pages:
        for row in rows.tolist():
            decision = decisions[row]
            assert isinstance(decision, DsjsonDecision)
            assert decision.label is not None
            context = json.loads(decision.context)
            left = [page.context.candidates[k] for k in np.flatnonzero(batch.mask[row])]
            assert [each["_tag"] for each in context["_multi"]] == left
            assert left[decision.label.action] == page.context.candidates[batch.action[row]]
            shared = page.context.features.shared
            assert context["U"] == {
                name: float(value) for name, value in zip(SHARED, shared, strict=True) if value
            }


def test_vw_reads_it_the_same_before_and_after_another_round(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.dsjson"
    with again.open("wb") as file:
        n = write_dsjson(read_dsjson(written), file)
    assert again.read_bytes() == written.read_bytes()
    n_examples, loss, n_features = vw(written)
    assert int(n_examples) == n
    assert float(loss) < 0.0
    assert int(n_features) > 100 * n


def test_decisions_of_another_system_have_no_pages(written: Path) -> None:
    with pytest.raises(ValueError, match="expected decisions with their pages, got those of anoth"):
        next(page_decisions(one_batch(DsjsonSource(written))))
