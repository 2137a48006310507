"""Verification of a log: every page is redrawn from a fresh fold and compared bit for bit.

A page is redrawn by the policy that it names, from logged features, the refolded model, the kept
ranker and the secret, never from a logged probability. Pages that match are then tested together,
because wrong seeds redraw exactly but are not independent. Method and memory bounds:
`docs/decisions/audit-log-verification.md`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from env.columns.schema import DYNAMIC_WIDTHS, SCHEMA
from env.interface import EventLog, Policy, page_pmfs, page_seed, redraw
from env.pages.records import Blocks
from env.pages.verify import Violation, audit_page
from env.pages.verify_many import DrawAudit
from env.records import Kind, LogLine, PageRecord
from env.vocabulary import DecisionId, Page
from policies.bandit.scorer import HybridBanditScorer
from policies.custom.load import say
from policies.custom.policy import custom_args, custom_version
from policies.explorers import AnyExplorer, explorer_args
from policies.snapshots import SnapshotCorruption
from serve.config import Config
from serve.errors import JobError
from serve.jobs.policies import FindBandit, bandit_version, find_logged_policy, kept_bandits
from serve.learn.custom import CustomFinder, Customs, OtherCodeError, load_customs
from serve.learn.fold import LearnerState
from serve.learn.rankers import FindRanker, ranker_finder
from serve.learn.served import initial_model
from serve.learn.settings import learning_args, open_snapshots
from serve.store.data_folder import open_data
from serve.store.generations import all_versions
from serve.store.store import Activation, StorePast
from serve.tokens import derive_key, load_secret

Advance = Callable[[int], None]
"""Called with the number of log lines processed since the last call."""

BATCH_LINES = 1_000
SHOWN_VIOLATIONS = 20


class Verified(msgspec.Struct, frozen=True):
    """Result of verifying a log.

    Attributes:
        mismatches: decisions logged and not redrawn, or redrawn and not logged.
        max_error: largest relative difference between a logged and a refolded propensity; infinite
            if a page's policy is unknown.
        violations: the first violations, see `env.pages.verify`.
        n_older: pages of an earlier feature schema whose version is not kept as a snapshot, which
            this release cannot redraw; they are in no other count.
        other_code: pages drawn by a custom policy whose code is different now, or not among the
            arms, by name and hash of the code; they are in no other count.
    """

    n_pages: int = 0
    n_decisions: int = 0
    mismatches: int = 0
    max_error: float = 0.0
    violations: tuple[Violation, ...] = ()
    n_older: int = 0
    other_code: dict[str, int] = {}

    @property
    def is_clean(self) -> bool:
        """Whether every decision was redrawn with its propensity."""
        return not self.mismatches and not self.max_error and not self.violations


def verify_log(
    config: Config, advance: Advance | None = None, *, n_shown: int = SHOWN_VIOLATIONS
) -> Verified:
    """Redraw all pages that are in the log now; a server may be running on it.

    Args:
        config: the learner's arguments must be those that it learned under.
        advance: progress callback; the total is the number of log lines.
        n_shown: number of violations returned, the first ones; all are looked for.

    Raises:
        JobError: there is no log, or no secret to draw with.
        LogCorruption: a line differs from the written one.
    """
    with open_data(config) as store:
        draw_key = _draw_key(Path(config.data.folder))
        log = store.log
        end = log.last_offset()
        versions = all_versions(store)
        last_uses = _last_uses(log, end)
        learning = LearnerState(learning_args(config), StorePast(store))
        ranker, customs = ranker_finder(config), load_customs(config)
        kept = kept_bandits(open_snapshots(config))
        audit = _Audit(learning, draw_key, last_uses, ranker, customs, kept, n_shown)
        for version, lines in _stretches(log, versions, end):
            audit.walk(lines)
            if version is not None:
                audit.freeze(version)
            if advance is not None:
                advance(len(lines))
    return audit.finish()


class _Audit:
    """Folds lines, freezes versions and redraws pages."""

    def __init__(
        self,
        learning: LearnerState,
        draw_key: bytes,
        last_uses: "Mapping[_Used, int]",
        ranker: FindRanker,
        customs: Customs,
        kept: FindBandit,
        n_shown: int,
    ) -> None:
        self.found = Verified()
        self._n_shown = n_shown
        self._learning = learning
        self._draw_key = draw_key
        self._last_uses = last_uses  # by version, the offset of the last page that names it
        self._ranker = ranker
        self._kept = kept
        self._custom_states: dict[tuple[str, int], bytes] = {}
        self._custom = CustomFinder(
            customs, lambda policy, version: self._custom_states.get((policy, version))
        )
        self._blocks = Blocks()
        self._draws = DrawAudit()
        vowpal = learning.args.vowpal
        self._scorers: dict[int, HybridBanditScorer] = {0: initial_model(vowpal)}

    def finish(self) -> Verified:
        """Return the result, including tests over all pages together."""
        violations = (*self._draws.violations(), *self.found.violations)[: self._n_shown]
        return msgspec.structs.replace(self.found, violations=violations)

    def freeze(self, version: Activation) -> None:
        """Keep what a version would draw with, if a page names it."""
        if version.version in self._last_uses:
            self._scorers[version.version] = self._learning.policy.frozen(version.version)
        for custom in self._learning.custom:
            if (custom.name, version.version) in self._last_uses:
                with suppress(Exception):  # none was published either, or it is found missing
                    self._custom_states[custom.name, version.version] = custom.state()

    def walk(self, lines: list[LogLine]) -> None:
        """Redraw the pages among these lines, then fold them."""
        for line in lines:
            self._blocks.fold(line.record)
            if isinstance(line.record, PageRecord):
                self._check(line.record)
                used = _used(line.record)
                if used is not None and self._last_uses[used] <= line.offset:
                    self._drop(used)
        self._learning.fold(lines)

    def _check(self, record: PageRecord) -> None:
        if record.feature_schema not in DYNAMIC_WIDTHS:
            self._add_older()
            return
        is_older = record.feature_schema != SCHEMA
        page = self._blocks.page(record)
        find = self._older_bandit if is_older else self._bandit
        try:
            policy = find_logged_policy(record, find, self._ranker, self._custom)
        except OtherCodeError as error:
            counted = {**self.found.other_code}
            counted[str(error)] = counted.get(str(error), 0) + 1
            self.found = msgspec.structs.replace(self.found, other_code=counted)
            return
        except ValueError as error:
            self._add_lost(record, page, str(error))
            return
        if policy is None and is_older:
            self._add_older()
            return
        if policy is None:
            self._add_lost(record, page, _unknown(record))
            return
        if custom_args(record.explorer) is None:
            self._compare(record, page, policy)
            return
        try:
            self._compare(record, page, policy)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is a stranger's code
            self._add_lost(record, page, f"the policy raised {say(error)}: {record.policy}")

    def _add_older(self) -> None:
        """Count a page of an earlier feature schema whose policy is not kept."""
        self.found = msgspec.structs.replace(self.found, n_older=self.found.n_older + 1)

    def _compare(self, record: PageRecord, page: Page, policy: Policy) -> None:
        seed = page_seed(self._draw_key, record.page_id)
        redrawn = redraw(page, policy, seed)
        if redrawn == page.decisions:
            self._draws.add(page, policy)
            self._add(page, 0, 0.0, [])
            return
        drawn, logged = ({(d.slot, d.action) for d in ds} for ds in (redrawn, page.decisions))
        violations = audit_page(page, policy, seed)
        self._add(page, len(drawn ^ logged), _propensity_error(page, policy), violations)

    def _drop(self, used: "_Used") -> None:
        """Let go of what no later page was drawn with."""
        if isinstance(used, int):
            self._scorers.pop(used, None)
        else:
            self._custom_states.pop(used, None)

    def _add_lost(self, record: PageRecord, page: Page, message: str) -> None:
        """Count a page that cannot be drawn again."""
        violation = Violation("policy", DecisionId(f"{record.page_id}:0"), message)
        self._add(page, len(page.decisions), float("inf"), [violation])

    def _bandit(self, version: int, explorer: AnyExplorer) -> Policy | None:
        """Return a refolded version with this explorer; None: there is none."""
        scorer = self._scorers.get(version)
        if scorer is None or scorer.explorer == explorer_args(explorer):
            return scorer
        return HybridBanditScorer.from_bytes(scorer.to_bytes(), explorer, version)

    def _older_bandit(self, version: int, explorer: AnyExplorer) -> Policy | None:
        """Return a version of an earlier schema; None: it is not kept, or damaged.

        A fold by today's schema has more columns and would round differently.
        """
        if not version:
            return self._bandit(version, explorer)
        try:
            return self._kept(version, explorer)
        except SnapshotCorruption:
            return None

    def _add(
        self, page: Page, mismatches: int, error: float, violations: Iterable[Violation]
    ) -> None:
        found = self.found
        self.found = msgspec.structs.replace(
            found,
            n_pages=found.n_pages + 1,
            n_decisions=found.n_decisions + len(page.decisions),
            mismatches=found.mismatches + mismatches,
            max_error=max(found.max_error, error),
            violations=(*found.violations, *violations)[: self._n_shown],
        )


def _draw_key(folder: Path) -> bytes:
    if not (folder / "secret.key").exists():  # loading it would make another one
        raise JobError(f"{folder}: expected secret.key, found none: pages cannot be drawn again")
    return derive_key(load_secret(folder), "draw")


_Used = int | tuple[str, int]
"""A version of the bandit, or a policy of one's own and its version."""


def _used(page: PageRecord) -> _Used | None:
    """Return which version drew a page; None: it is of a policy that learns nothing."""
    args = custom_args(page.explorer)
    if args is None:
        return bandit_version(page.policy)
    version = custom_version(page.policy)
    return (args.policy, version) if version else None


def _last_uses(log: EventLog, end: int) -> dict[_Used, int]:
    kinds: tuple[Kind, ...] = ("page",)
    return {
        used: line.offset
        for line in log.read(kinds=kinds)
        if isinstance(line.record, PageRecord)
        and line.offset <= end
        and (used := _used(line.record)) is not None
    }


def _stretches(
    log: EventLog, versions: Iterable[Activation], end: int
) -> Iterator[tuple[Activation | None, list[LogLine]]]:
    """Yield the log up to an offset in batches that end where a version was published.

    A version is yielded after its last batch, with no lines.
    """
    at = 0
    for version in versions:
        while at < min(version.offset, end):
            lines = _read(log, at, min(version.offset, end))
            at = lines[-1].offset
            yield None, lines
        yield version, []
    while at < end:
        lines = _read(log, at, end)
        at = lines[-1].offset
        yield None, lines


def _read(log: EventLog, after: int, up_to: int) -> list[LogLine]:
    """Return the next lines, at least one; only duplicates leave gaps in the offsets."""
    lines = [line for line in log.read(after, BATCH_LINES) if line.offset <= up_to]
    if not lines:
        raise JobError(f"expected log lines {after + 1} to {up_to}, found none; restore a backup")
    return lines


def _propensity_error(page: Page, policy: Policy) -> float:
    """Return the largest relative error given the logged prefix; infinite where p is 0."""
    errors = [
        abs(d.propensity - p) / p if (p := float(pmf[d.action])) > 0.0 else float("inf")
        for d, pmf in page_pmfs(page, policy)
    ]
    return max(errors, default=0.0)


def _unknown(record: PageRecord) -> str:
    part = f", or ranker {record.explorer['ranker']} is gone" if "ranker" in record.explorer else ""
    return f"no such version was published before this page: {record.policy}{part}"
