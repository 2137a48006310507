"""The fair start of uploads: a fold of the log that tracks delivery guarantees and rollout stages.

`Audiences` owes each launched upload a number of impressions, gathers guarded evidence of its
uplift over a matched baseline, and promotes, demotes or stops it by a sequential test. It also
computes the share of a market's cards to reserve. How the parts fit together, and rejected
alternatives: `docs/decisions/delivery-guarantee.md`.
"""

import msgspec
import numpy as np

from env.fair_start.baseline import MatchedBaseline
from env.fair_start.budget import HOUR_MS, SETTLE_MS, Demand, MarketKey, PacingController
from env.fair_start.reach import Reach, UploadState
from env.fair_start.settings import OPEN_LEVEL, AudienceArgs, FairStart
from env.fair_start.traffic import Frozen, Heard, Traffic
from env.fair_start.trial import UploadTrial
from env.fair_start.uploads import STOPPED, StoredUploads, Uploads
from env.fair_start.verdict import Verdicts
from env.items.catalogue import Catalogue
from env.items.content import home_country
from env.records import ItemRecord
from env.reward import is_censored
from env.vocabulary import Correction, Interaction, Ints, ItemId, Scene


def reach_of(uploads: Uploads, args: FairStart, catalogue: Catalogue, now_ms: int) -> Reach:
    """Return the columns by catalogue index, including launches that the fold has not seen yet."""
    row_of = uploads.rows_in(catalogue)
    standing = np.array([*uploads.standing, OPEN_LEVEL], dtype=np.int64)[row_of]
    debts = np.zeros((3, len(uploads.standing) + 1))
    for trial in uploads.owing():
        debts[:, trial.row] = _debt(trial, now_ms)
    owed, due_ms, price = debts[:, row_of]
    new = catalogue.debuts[: len(row_of)] & (row_of < 0)
    for index in np.flatnonzero(new & catalogue.listed[: len(row_of)]).tolist():
        owed[index], due_ms[index] = _first_debt(args, catalogue, index, now_ms)
    stopped = standing >= STOPPED
    return Reach.of(np.where(stopped | new, 0, standing), stopped, owed, due_ms, price)


def reach_after(
    uploads: Uploads,
    args: FairStart,
    reach: Reach,
    catalogue: Catalogue,
    changed: Ints,
    now_ms: int,
) -> Reach:
    """Return the result of `reach_of` after changes of the catalogue alone, incrementally.

    `reach` is the previous result, after which nothing was folded; `changed` holds the ascending
    indices of the items that were put or taken down.
    """
    row_of = uploads.rows_in(catalogue)
    rows = [_row(uploads, args, catalogue, i, int(row_of[i]), now_ms) for i in changed.tolist()]
    return reach.changed(len(row_of), changed, rows)


def _row(
    uploads: Uploads, args: FairStart, catalogue: Catalogue, index: int, row: int, now_ms: int
) -> tuple[int, bool, float, float, float]:
    """Return the row of `Reach` of one item."""
    if row >= 0:
        standing, trial = uploads.standing[row], uploads.owing_in(row)
        stopped = standing >= STOPPED
        debt = (0.0, 0.0, 0.0) if trial is None else _debt(trial, now_ms)
        return 0 if stopped else standing, stopped, *debt
    if not catalogue.debuts[index]:
        return OPEN_LEVEL, False, 0.0, 0.0, 0.0
    if not catalogue.listed[index]:
        return 0, False, 0.0, 0.0, 0.0
    return 0, False, *_first_debt(args, catalogue, index, now_ms), 0.0


def _debt(trial: UploadTrial, now_ms: int) -> tuple[float, float, float]:
    """Return a trial's shortfall with test impressions, its deadline and its price."""
    return trial.debt + trial.test(now_ms), trial.due_ms, trial.price(now_ms)


def _first_debt(
    args: FairStart, catalogue: Catalogue, index: int, now_ms: int
) -> tuple[float, float]:
    """Return shortfall and deadline of a launch that the fold has not seen yet."""
    owed = float(args.owed_in(home_country(catalogue.item(index))))
    return owed, now_ms + int(args.within_h * HOUR_MS) if owed else 0.0


SILENCE_MS = 7 * 24 * HOUR_MS
IDLE_MS = 30 * 24 * HOUR_MS
"""A trial ends when its upload has had no impression, or has been taken down, for this long."""

_DAY_MS = 24 * HOUR_MS


class Audiences:
    """The delivery guarantees, rollout stages and evidence of all uploads."""

    def __init__(self, args: AudienceArgs | None = None) -> None:
        self._args = args or AudienceArgs()
        self._within_ms = int(self._args.fair_start.within_h * HOUR_MS)
        self._clock_ms = 0
        self._swept_ms = 0
        self._uploads = Uploads(self._args.fair_start)
        self._baseline = MatchedBaseline()
        self._traffic = Traffic()
        self._verdicts = Verdicts(self._args.guards.trim)
        self._payments = PacingController()
        self._demand: Demand | None = None
        self._aligned: tuple[Catalogue, int, Reach] | None = None

    @property
    def clock_ms(self) -> int:
        """Latest time in any record folded so far, Unix milliseconds."""
        return self._clock_ms

    def put(self, record: ItemRecord) -> None:
        """Start the trial of a launched item; a takedown or delisting suspends it."""
        self._hear(record.at_ms)
        if record.debut:
            self._traffic.freeze(self._clock_ms)
        self._uploads.put(record, self._clock_ms - SILENCE_MS, self._clock_ms)

    def fold(self, interaction: Interaction) -> bool:
        """Count a closed interaction; return whether the learners may train on it.

        A filtered impression does not count as delivered either.
        """
        self._hear(interaction.closed_ms)
        scene = interaction.scene
        trial = self._uploads.trial(interaction.item_id)
        self._traffic.fold(scene, self._args.guards.young_days)
        counts = self._admit(interaction, trial)
        paying = trial is not None and trial.show(self._clock_ms, counts=counts)
        place = MarketKey(scene.country, scene.language)
        self._payments.show(place, self._clock_ms, paying=paying)
        if counts and not is_censored(interaction.feedback, interaction.duration_s):
            self._learn(interaction, trial)
        if trial is not None:
            trial.close(self._args.pools)
            self._uploads.follow(trial, self._audited)
        return counts

    def correct(self, correction: Correction) -> None:
        """Take note of what has become known of an interaction that `fold` counted and accepted."""
        after = correction.after
        if is_censored(after.feedback, after.duration_s):
            return
        self._aligned = self._demand = None
        trial = self._uploads.trial(after.item_id)
        before = correction.before
        if is_censored(before.feedback, before.duration_s):
            self._learn(after, trial)  # its reward is known only now
        elif correction.difference:
            self._correct(correction, trial)
        if trial is not None:
            self._uploads.follow(trial, self._audited)

    def hears(self, scene: Scene, item_id: ItemId) -> bool:
        """Return whether an impression in this scene would count as evidence and as delivered now.

        It would not while its source is rate-limited for this upload. A source is only known to be
        rate-limited after a first filtered impression; until then every scene is accepted.
        """
        trial, guards = self._uploads.trial(item_id), self._args.guards
        if trial is None or trial.level == OPEN_LEVEL or not trial.evidence.cut:
            return True
        source = self._traffic.source(scene, guards.young_days, trial.country, trial.born_ms)
        return trial.evidence.hears(source, guards)

    def aligned(self, catalogue: Catalogue) -> Reach:
        """Return `Reach` by catalogue index, computed anew only after a fold or a put.

        Changes of the catalogue alone update only the items that changed.
        """
        n_changes = catalogue.n_changes  # before the columns are read: they may grow meanwhile
        args = self._args.fair_start
        if self._aligned is not None and self._aligned[0] is catalogue:
            _, known, reach = self._aligned
            if known == n_changes:
                return reach
            changed = catalogue.changed_since(known)
            reach = reach_after(self._uploads, args, reach, catalogue, changed, self._clock_ms)
        else:
            reach = reach_of(self._uploads, args, catalogue, self._clock_ms)
        self._aligned = catalogue, n_changes, reach
        return reach

    def share(self, country: str, language: str) -> float:
        """Return the share of a user's cards to reserve now, in [0, budget].

        Args:
            country: of the user, upper-case; empty where unknown.
            language: of the user, lower-case; empty where unknown.
        """
        place = MarketKey(country, language)
        return self._payments.share(place, self._needs().at(place), self._args.fair_start.budget)

    def reserved(self, country: str) -> float:
        """Return the share of all cards in a country that is reserved now."""
        rates = self._payments.rates(self._clock_ms)
        here = {place: rate for place, rate in rates.items() if place.country == country}
        if not here:
            return self.share(country, "")
        cards = sum(rate * self.share(*place) for place, rate in here.items())
        return cards / sum(here.values())

    def overdrawn(self) -> dict[str, float]:
        """Return the over-committed markets, each with the constant share that its guarantees need.

        Markets are named as by `env.fair_start.budget.Place`. A market is judged from its second
        hour of traffic on, and is reported once it has been over-committed for
        `env.fair_start.budget.ALARM_MS`.
        """
        needs = {
            place: self._needs().at(place) for place in self._payments.overdrawn(self._clock_ms)
        }
        budget = self._args.fair_start.budget
        return {str(p): needed.even for p, needed in sorted(needs.items()) if needed.even > budget}

    def unreachable(self) -> tuple[str, ...]:
        """Return the under-filled markets: deliveries are late though slots are reserved for them.

        A home market with fewer users than guaranteed impressions is one. Named as by `overdrawn`.
        """
        return tuple(map(str, sorted(self._payments.unreachable(self._clock_ms))))

    @property
    def heard(self) -> dict[str, Heard]:
        """By market, recent impressions outside of trials, trainable and not."""
        return dict(self._traffic.heard)

    def uploads(self) -> list[UploadState]:
        """Return one record an upload, by launch: all under trial and the latest of the others."""
        return self._uploads.states(self._audited)

    def to_bytes(self) -> bytes:
        """Return the state; the same stream of records gives the same bytes."""
        stored = _Stored(
            self._clock_ms,
            self._swept_ms,
            self._uploads.to_stored(),
            self._baseline.to_bytes(),
            self._traffic.to_stored(),
            self._verdicts,
            self._payments,
            self._traffic.frozen,
            self._traffic.heard,
        )
        return msgspec.msgpack.encode(stored)

    @classmethod
    def from_bytes(cls, data: bytes, args: AudienceArgs | None = None) -> "Audiences":
        """Return the state that `to_bytes` wrote, under these settings from now on.

        Raises:
            msgspec.DecodeError: the bytes are no state.
            ValueError: columns that belong together have different lengths.
        """
        stored = msgspec.msgpack.decode(data, type=_Stored)
        audiences = cls(args)
        audiences._clock_ms, audiences._swept_ms = stored.clock_ms, stored.swept_ms
        audiences._uploads = Uploads.from_stored(stored.uploads, audiences._args.fair_start)
        audiences._baseline = MatchedBaseline.from_bytes(stored.baseline)
        audiences._traffic = Traffic.from_stored(stored.traffic, stored.frozen, stored.heard)
        audiences._verdicts = stored.verdicts
        audiences._verdicts.trim = audiences._args.guards.trim
        audiences._payments = stored.payments
        return audiences

    def _hear(self, at_ms: int) -> None:
        """Advance the clock, invalidate cached results, and settle or sweep when due."""
        self._aligned = self._demand = None
        silence_ms = at_ms - self._clock_ms
        if silence_ms <= 0:
            return
        self._clock_ms = at_ms
        if silence_ms > SILENCE_MS:
            self._payments.forget()
            for trial in self._uploads.trials():
                trial.stretch(silence_ms)
        if at_ms - self._payments.settled_ms >= SETTLE_MS:
            self._payments.settle(self._needs(), self._args.fair_start.budget, at_ms)
            self._demand = None
        if at_ms - self._swept_ms >= _DAY_MS:
            self._sweep()

    def _sweep(self) -> None:
        """End the trials of idle and of taken-down uploads.

        Where anything was ever launched, traffic counts are frozen daily too.
        """
        self._swept_ms = self._clock_ms
        if self._traffic.frozen:
            self._traffic.freeze(self._clock_ms)
        for trial in self._uploads.trials():
            trial.stopped = trial.given_up(self._clock_ms - IDLE_MS)
            if trial.stopped:
                self._uploads.follow(trial, self._audited)

    def _admit(self, interaction: Interaction, trial: UploadTrial | None) -> bool:
        """Return whether an interaction counts as evidence of its item, or as ordinary traffic."""
        scene, guards = interaction.scene, self._args.guards
        if trial is None or trial.level == OPEN_LEVEL:
            days, slack = guards.young_days, guards.slack
            return not guards.enabled or self._traffic.admit(scene, days, slack, self._clock_ms)
        source = self._traffic.source(scene, guards.young_days, trial.country, trial.born_ms)
        return trial.evidence.admit(source, guards, interaction.user)

    def _learn(self, interaction: Interaction, trial: UploadTrial | None) -> None:
        scene, guards = interaction.scene, self._args.guards
        uplift = interaction.reward - self._baseline.expect(interaction)
        if not guards.enabled or self._traffic.is_usual(scene, guards.young_days, guards.slack):
            self._baseline.fold(interaction)
            self._verdicts.learn(uplift)
        if trial is not None:
            trial.learn(uplift, self._verdicts, self._args.pools, self._clock_ms)

    def _correct(self, correction: Correction, trial: UploadTrial | None) -> None:
        """Move the evidence of an interaction from its reward before to that after."""
        after, guards = correction.after, self._args.guards
        expected = self._baseline.expect(after)
        before, now = correction.before.reward - expected, after.reward - expected
        if not guards.enabled or self._traffic.is_usual(
            after.scene, guards.young_days, guards.slack
        ):
            self._baseline.correct(after, correction.difference)
            self._verdicts.correct(before, now)
        if trial is not None and trial.level != OPEN_LEVEL:
            trial.evidence.move(before, now)

    def _needs(self) -> Demand:
        if self._demand is None:
            rates = self._payments.rates(self._clock_ms)
            self._demand = Demand.of(self._uploads.owing(), rates, self._within_ms, self._clock_ms)
        return self._demand

    def _audited(self, trial: UploadTrial) -> UploadState:
        return trial.state(self._verdicts, self._args.pools.bars)


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag="audiences/4"):
    clock_ms: int
    swept_ms: int
    uploads: StoredUploads
    baseline: bytes
    traffic: dict[str, bytes]
    verdicts: Verdicts
    payments: PacingController
    frozen: list[Frozen]  # of the traffic
    heard: dict[str, Heard]  # the same
