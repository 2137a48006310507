"""The draw-and-log path passes every check, and ten wrong ones are each caught by a named check.

Page by page, and once more as lines of a real log, by the audit that folds it again.
"""

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import mutants
import numpy as np
import pytest
from histories import config_of, make_history

from env.columns.schema import N_ACTION, N_SHARED, N_STATIC, SCHEMA
from env.interface import Policy, fill_page, page_seed
from env.pages.records import Blocks, page_record
from env.pages.verify import Check, Violation, audit_page
from env.pages.verify_many import DrawAudit
from env.records import Card, PageRecord
from env.vocabulary import (
    Bools,
    Context,
    DecisionId,
    Features,
    Floats,
    ItemId,
    Page,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from policies.bandit.scorer import HybridBanditScorer
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.explorers import AnyExplorer, Epsilon, Greedy, SquareCB, explorer_args
from serve.config import Config
from serve.jobs.verify import Verified, verify_log
from serve.learn.settings import open_snapshots
from serve.store.open import open_store
from serve.tokens import derive_key, load_secret

N = 20
N_SLOTS = 5
EPS = 0.1
LOGGED_EPS = 0.5
KEY = b"a secret of this test"


class LinearPolicy:
    """Scores by fixed weights that depend on the version."""

    def __init__(self, version: int, explorer: AnyExplorer) -> None:
        self.name = f"linear@{version}"
        self.explorer = explorer_args(explorer)
        self._explorer = explorer
        self._weights = np.random.default_rng(version).normal(size=N_ACTION)

    def score(self, context: Context) -> Floats:
        scores: Floats = np.sum(context.features.actions * self._weights, axis=1) / 10.0
        return scores

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        return self._explorer.pmf(scores, mask)


LEARNED = LinearPolicy(7, SquareCB(20.0))


@cache
def context(page: int) -> Context:
    rng = np.random.default_rng(page)
    actions = rng.normal(size=(N, N_ACTION)).astype(np.float16).astype(np.float32)
    return Context(
        page_id=PageId(f"{page:08x}"),
        user=UserKey("u"),
        session=SessionId("s"),
        scene=Scene(0),
        candidates=tuple(ItemId(f"i{i}") for i in range(N)),
        features=Features(
            np.zeros(N_SHARED, dtype=np.float32), actions, np.arange(N, dtype=np.uint64)
        ),
    )


@cache
def rules(page: int, n: int = N) -> tuple[SlotRule, ...]:
    """Open slots and reserved ones; the floor is spread over some of what is allowed."""
    rng = np.random.default_rng([page, 1])
    everything = np.ones(n, dtype=np.bool_)
    reserved = SlotRule(rng.random(n) < 0.4, rng.random(n) < 0.3, "reserved")
    open_slot = SlotRule(everything, rng.random(n) < 0.3)
    return (open_slot, reserved, open_slot, reserved, open_slot)


def filled(
    fill: mutants.Fill, policy: Policy, n_pages: int, eps: float = EPS
) -> list[tuple[Page, int]]:
    seeds = [page_seed(KEY, context(i).page_id) for i in range(n_pages)]
    return [(fill(context(i), policy, rules(i), eps, s), s) for i, s in enumerate(seeds)]


def audited(pages: list[tuple[Page, int]], policy: Policy) -> set[Check]:
    return {v.check for page, seed in pages for v in audit_page(page, policy, seed)}


def audited_together(pages: list[tuple[Page, int]], policy: Policy) -> list[Violation]:
    draws = DrawAudit()
    for page, _ in pages:
        draws.add(page, policy)
    return draws.violations()


POLICIES: list[Policy] = [
    UniformPolicy(),
    PopularityPolicy(),
    mixture_policy(0.2),
    LEARNED,
    LinearPolicy(1, Greedy()),
    LinearPolicy(2, Epsilon(0.3)),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: f"{p.name}-{p.explorer['kind']}")
@pytest.mark.slow
def test_the_true_implementation_passes_every_check(policy: Policy) -> None:
    pages = filled(fill_page, policy, 300)

    assert [v for page, seed in pages for v in audit_page(page, policy, seed)] == []
    assert audited_together(pages, policy) == []


def test_the_frame_that_mutants_are_made_of_is_itself_right() -> None:
    assert [p.decisions for p, _ in filled(mutants.true_fill, LEARNED, 50)] == [
        p.decisions for p, _ in filled(fill_page, LEARNED, 50)
    ]


MUTANTS: dict[str, tuple[mutants.Fill, Check]] = {
    "the floor forgotten": (mutants.forgotten_floor, "floor"),
    "a filter after the draw": (mutants.filter_after_draw, "draw"),
    "the pmf logged before the floor": (mutants.logged_before_floor, "propensity"),
    "the wrong slot's prefix": (mutants.wrong_prefix, "propensity"),
    "float32 renormalisation": (mutants.float32_renormalised, "propensity"),
    "a stale version": (mutants.stale_version(LinearPolicy(6, SquareCB(20.0))), "propensity"),
    "an off-by-one action": (mutants.off_by_one, "draw"),
    "a reused seed": (mutants.reused_seed, "draw"),
    "a mask ignored": (mutants.ignored_mask, "mask"),
    "a rounded propensity": (mutants.rounded_propensity, "propensity"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_its_named_check(name: str) -> None:
    fill, check = MUTANTS[name]

    assert check in audited(filled(fill, LEARNED, 20), LEARNED)


def test_there_are_ten_mutants_and_ten_are_caught() -> None:
    caught = [name for name, (f, _) in MUTANTS.items() if audited(filled(f, LEARNED, 20), LEARNED)]

    assert len(caught) == len(MUTANTS) == 10


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a log, a secret and the four versions that were learned from it."""
    folder = tmp_path_factory.mktemp("history") / "data"
    make_history(config_of(folder))
    return folder


def logged(config: Config, fill: mutants.Fill) -> None:
    """Append pages of the newest version to the log, as a server with this way to fill would."""
    folder = Path(config.data.folder)
    key = derive_key(load_secret(folder), "draw")
    policy = scorer_of(config, 4)
    with open_store(config, lambda: 0) as store:
        log, blocks, before = store.log, Blocks(), list[PageRecord]()
        for line in log.read():
            blocks.fold(line.record)
            if isinstance(line.record, PageRecord):
                before.append(line.record)
        records = []
        for k, record in enumerate(before[-20:]):
            known = blocks.page(record).context
            page_id = PageId(f"{k:08x}")
            asked = replace(known, page_id=page_id)
            page = fill(asked, policy, rules(k, len(known)), LOGGED_EPS, page_seed(key, page_id))
            records.append(record_of(page, record, blocks))
        assert all(log.append(records, durable=True))


def scorer_of(config: Config, version: int) -> HybridBanditScorer:
    weights = open_snapshots(config).load_part(version, "scorer")
    # So timid that most of what is drawn without the floor lies below it.
    return HybridBanditScorer.from_bytes(weights, SquareCB(20.0), version)


def record_of(page: Page, like: PageRecord, blocks: Blocks) -> PageRecord:
    actions = [d.action for d in page.decisions]
    static = [blocks.block(like.blocks[8 * action : 8 * action + 8]) for action in actions]
    ids = [page.context.candidates[action] for action in actions]
    return page_record(
        page,
        blocks=like.blocks,
        n_static=N_STATIC,
        feature_schema=SCHEMA,
        cards=tuple(Card(*card) for card in zip(ids, static, strict=True)),
        reasons=("random",) * len(actions),
    )


@pytest.mark.slow
def test_pages_that_are_filled_right_pass_the_audit_of_the_log(
    history: Path, tmp_path: Path
) -> None:
    config = config_of(shutil.copytree(history, tmp_path / "data"))
    logged(config, fill_page)

    assert verify_log(config) == Verified(n_pages=64 + 20, n_decisions=256 + 100)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_the_same_check_in_the_audit_of_its_log(
    name: str, history: Path, tmp_path: Path
) -> None:
    config = config_of(shutil.copytree(history, tmp_path / "data"))
    fill, check = MUTANTS[name]
    if name == "a stale version":
        fill = mutants.stale_version(scorer_of(config, 3))
    logged(config, fill)

    verified = verify_log(config, n_shown=10_000)

    assert not verified.is_clean
    assert check in {v.check for v in verified.violations if v.decision_id.startswith("0000")}


# What many pages show without the seeds, to a user who has nothing but the log.
STATISTICAL: dict[str, tuple[mutants.Fill, Check]] = {
    "the floor forgotten": (mutants.forgotten_floor, "fit"),
    "the pmf logged before the floor": (mutants.logged_before_floor, "weight"),
    "a stale version": (mutants.stale_version(LinearPolicy(6, SquareCB(20.0))), "fit"),
    "a reused seed": (mutants.reused_seed, "independence"),
}


@pytest.mark.parametrize("name", STATISTICAL)
def test_many_draws_show_a_mutant_without_the_seeds(name: str) -> None:
    fill, check = STATISTICAL[name]
    pages = filled(fill, LEARNED, 500, eps=0.5)

    assert check in {v.check for v in audited_together(pages, LEARNED)}


@pytest.mark.slow
def test_one_seed_for_all_pages_is_seen_without_knowing_it() -> None:
    pages = [(fill_page(context(i), LEARNED, rules(i), EPS, 5), 5) for i in range(600)]

    assert audited(pages, LEARNED) == set(), "each page by itself is right"
    assert "independence" in {v.check for v in audited_together(pages, LEARNED)}


PAGE, SEED = filled(fill_page, LEARNED, 1)[0]
FIRST = PAGE.decisions[0]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"policy": "linear@6"}, "policy"),
        ({"slot": 9}, "identity"),
        ({"slot": 4, "decision_id": DecisionId("00000000:4")}, "identity"),
        ({"action": N}, "identity"),
        ({"action": -1}, "identity"),
        ({"item_id": ItemId("other")}, "identity"),
        ({"decision_id": DecisionId("00000000:1")}, "identity"),
        ({"propensity": FIRST.propensity * (1 + 1e-11)}, "propensity"),
        ({"propensity": float("nan")}, "propensity"),
        ({"propensity": 0.0}, "propensity"),
    ],
)
def test_one_changed_field_is_caught(changes: dict[str, object], check: Check) -> None:
    decision = msgspec.structs.replace(FIRST, **changes)
    page = replace(PAGE, decisions=(decision, *PAGE.decisions[1:]))

    assert check in {v.check for v in audit_page(page, LEARNED, SEED)}


def test_a_repeated_item_is_caught() -> None:
    second = PAGE.decisions[1]
    again = msgspec.structs.replace(FIRST, slot=2, decision_id=DecisionId("00000000:2"))
    page = replace(PAGE, decisions=(FIRST, second, again))

    assert "repeat" in {v.check for v in audit_page(page, LEARNED, SEED)}


def test_other_arguments_of_the_explorer_are_caught() -> None:
    page = replace(PAGE, explorer=explorer_args(SquareCB(21.0)))

    assert [v.check for v in audit_page(page, LEARNED, SEED)] == ["policy"]


def test_a_slot_for_which_nothing_was_left_is_caught_and_breaks_nothing() -> None:
    nothing = SlotRule(np.zeros(N, dtype=np.bool_), np.zeros(N, dtype=np.bool_), "empty")
    page = replace(PAGE, slots=(PAGE.slots[0], nothing, *PAGE.slots[2:]))

    checks = {v.check for v in audit_page(page, LEARNED, SEED)}

    assert {"mask", "draw"} <= checks


def test_a_violation_says_where_what_was_expected_and_what_came() -> None:
    page = replace(PAGE, decisions=(msgspec.structs.replace(FIRST, propensity=0.5),))

    violation = audit_page(page, LEARNED, SEED)[0]

    assert violation == Violation(
        "propensity", FIRST.decision_id, f"expected {FIRST.propensity!r}, got 0.5"
    )
