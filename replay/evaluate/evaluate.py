"""Counterfactual evaluation: the reward that policies would have earned on a log's decisions.

One row is one decision, with the target's probability under the logged rule, floor and earlier
cards of the page. The value therefore compares rankers on logged candidates; retrieval and effects
on later pages need a traffic split. A target that fails a gate (`replay.evaluate.gates`) gets no
estimate.
Reasons: `docs/decisions/evaluation-data.md`.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from env.interface import Policy
from env.vocabulary import Ints
from replay.estimators.choice import DEFAULT, estimates_of
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import Estimator, dr_gain, logged
from replay.estimators.intervals import LEVEL, Estimate
from replay.evaluate.calibration import ArmSizes
from replay.evaluate.gates import OF_LOG, GateFailure, Gates
from replay.evaluate.health import (
    EvaluationHealth,
    LogHealth,
    drift_of,
    per_day,
    shape_of,
    weights_of,
)
from replay.evaluate.importance import Importance
from replay.evaluate.segments import SegmentReport, segment_reports, unsupported_share
from replay.evaluate.targets import Oracle, PolicyTarget, Replayed, Target, replay_targets
from replay.evaluate.wholes import Unit, WholeValue, whole_value
from replay.join.spill import Spill
from replay.reward_models.batch_models import ByPage, Fit, fit_rewards
from replay.reward_models.ridge import Predictor
from replay.source import Source, Watched

GATES = Gates()
Advance = Callable[[int], None]
"""Progress callback; its argument is the number of decisions done since the last call."""


class PolicyReport(msgspec.Struct, frozen=True):
    """The evaluation of one policy on a log."""

    policy: str  # the target, `name@version`
    logged_policies: tuple[str, ...]  # policies that made the log
    reward_version: int  # version of the reward used in the join
    logged: Estimate  # estimate of the log's own policies
    estimates: tuple[Estimate, ...]  # the default first; empty if the log was refused
    gain: Estimate | None  # paired gain of dr over the log; None if it was refused
    health: EvaluationHealth  # of the log, for this target
    refusals: tuple[GateFailure, ...] = ()  # the gates that failed
    forced: bool = False  # a gate failed, so do not rely on the estimates
    parts: tuple[SegmentReport, ...] = ()  # segments of the log, with their own gates
    learned_share: float = 0.0  # of the decisions, learned from by the target
    left_out_folds: int = 0  # of users, each judged by a model without them; 0: one judged all
    truth: float | None = None  # on the same decisions; None without an oracle
    page_value: WholeValue | None = None  # of a whole page; None: the log has no pages
    session_value: WholeValue | None = None  # of a whole session; None: the log has no pages
    card_flatters: bool = False  # whether the value of a card flatters this target
    leads_with: Literal["page", "card"] = "card"  # the page's, where the card's flatters

    def estimate(self, estimator: str = DEFAULT) -> Estimate:
        """Return an estimator's estimate, or raise KeyError if there is none."""
        for estimate in self.estimates:
            if estimate.estimator == estimator:
                return estimate
        if not self.estimates:
            raise KeyError(f"the log was refused: {'; '.join(map(str, self.refusals))}")
        raise KeyError(f"expected one of {[e.estimator for e in self.estimates]}, got {estimator}")


class Evaluation(msgspec.Struct, frozen=True):
    """The evaluation of several policies on a log."""

    default: str  # estimator chosen in advance; the others are for comparison
    level: float  # coverage of the intervals
    logged: Estimate  # estimate of the log's own policies
    health: LogHealth  # of the log, independent of the target
    reports: tuple[PolicyReport, ...]  # one per policy, in the given order
    hidden_values: dict[str, int] = {}  # by segment, values beyond `MAX_VALUES`
    importance: Importance | None = None  # feature importance; None if not requested


def evaluate(
    source: Source,
    policy: Policy,
    predictor: Predictor | None = None,
    *,
    oracle: Oracle | None = None,
    level: float = LEVEL,
    gates: Gates = GATES,
    force: bool = False,
    advance: Advance | None = None,
) -> PolicyReport:
    """Return the evaluation of one policy on a log, with arguments and errors as in `evaluate_all`.

    Args:
        predictor: reward model not fitted on the rows it scores; None: as in `evaluate_all`.
    """
    fit: Fit = fit_rewards if predictor is None else lambda _: ByPage(predictor)
    evaluation = evaluate_all(
        source,
        [PolicyTarget(policy)],
        fit,
        oracle=oracle,
        level=level,
        gates=gates,
        force=force,
        advance=advance,
    )
    return evaluation.reports[0]


def evaluate_all(
    source: Source,
    targets: Sequence[Target],
    fit: Fit = fit_rewards,
    *,
    segments: Sequence[str] = (),
    arms: ArmSizes | None = None,
    oracle: Oracle | None = None,
    level: float = LEVEL,
    gates: Gates = GATES,
    force: bool = False,
    estimators: Sequence[Estimator] = (),
    advance: Advance | None = None,
) -> Evaluation:
    """Return the evaluation of several policies, all queried in one pass over the log.

    Args:
        source: decisions with exact propensities.
        targets: at least one.
        fit: makes the cross-fitted reward model.
        segments: names of the source's segments to report on as well.
        arms: observed sizes of the experiment's arms; a gate.
        oracle: true expected rewards, in a simulated world.
        level: coverage of the intervals, in (0, 1).
        force: estimate even if a gate fails; the report is marked.
        estimators: further ones, beside ours.
        advance: progress callback; it counts each decision once to fit and once to replay.

    Raises:
        ValueError: no target, no decision, decisions of one user only, an unknown segment, an
            invalid pmf of a target, a target whose code fails, or a further estimator that fails.
    """
    if not targets:
        raise ValueError("an evaluation needs policies, got none")
    if advance is not None:
        source = Watched(source, advance)
    model = fit(source)
    with Spill() as spill:
        replayed = replay_targets(source, targets, model, spill, oracle=oracle)
        unknown = [name for name in segments if name not in replayed.labels]
        if unknown:
            raise ValueError(f"expected segments of {sorted(replayed.labels)}, got {unknown}")
        asking = _Asking(source, replayed, arms, segments, level, gates, force, estimators)
        reports = tuple(asking.report(place, target) for place, target in enumerate(targets))
        hidden = {name: n for name in segments if (n := replayed.n_hidden(name))}
        return Evaluation(DEFAULT, level, reports[0].logged, asking.log_health, reports, hidden)


OWN_CARDS = 1.2
"""Seen cards of a page above which earlier cards matter."""

LIKE_THE_LOG = 0.95
"""Effective share of the decisions above which a target is about what made the log."""


def _flatters(page: WholeValue, health: EvaluationHealth) -> bool:
    """Return whether a target fills pages of several cards otherwise than the log did."""
    return page.n_cards > OWN_CARDS and health.ess_share < LIKE_THE_LOG


class _Asking:
    def __init__(
        self,
        source: Source,
        replayed: Replayed,
        arms: ArmSizes | None,
        segments: Sequence[str],
        level: float,
        gates: Gates,
        force: bool,
        estimators: Sequence[Estimator],
    ) -> None:
        self._estimators = estimators
        self._replayed, self._segments = replayed, segments
        self._level, self._gates, self._force = level, gates, force
        self._reward_version, self._reward_range = source.reward_version, source.reward_range
        self._at_ms: Ints = replayed.at_ms()
        coverage = source.coverage
        self.log_health = LogHealth(
            n_pages=replayed.n_pages,
            seen_share=coverage.seen / max(coverage.drawn, 1),
            censored_share=coverage.censored / max(coverage.seen, 1),
            first_ms=int(self._at_ms.min()),
            last_ms=int(self._at_ms.max()),
            n_unnamed=coverage.unnamed,
            n_dangling=coverage.dangling,
            per_day=per_day(self._at_ms),
            calibration=replayed.calibrating.result(),
            arms=arms,
        )

    def report(self, place: int, target: Target) -> PolicyReport:
        columns, predictions = self._replayed.columns(place), self._replayed.predictions(place)
        health = self._health(place, columns)
        refusals = self._gates.refusals(health)
        agrees = health.ess > 0.0
        page = self._whole("page", columns, predictions, refusals)
        flatters = page is not None and _flatters(page, health)
        shown = agrees and (self._force or not refusals)
        return PolicyReport(
            policy=target.name,
            logged_policies=self._replayed.policies,
            reward_version=self._reward_version,
            logged=logged(columns, self._level),
            estimates=self._estimates(columns, predictions) if shown else (),
            gain=dr_gain(columns, predictions, self._level) if shown else None,
            health=health,
            refusals=refusals,
            forced=shown and bool(refusals),
            parts=tuple(self._parts(place, columns, predictions, refusals)),
            learned_share=target.learned_share if isinstance(target, PolicyTarget) else 0.0,
            left_out_folds=target.n_folds if isinstance(target, PolicyTarget) else 0,
            truth=self._replayed.truth(place),
            page_value=page,
            session_value=self._whole("session", columns, predictions, refusals),
            card_flatters=flatters,
            leads_with="page" if flatters and page is not None and page.is_answered else "card",
        )

    def _whole(
        self,
        unit: Unit,
        columns: Columns,
        predictions: RewardPredictions,
        refusals: tuple[GateFailure, ...],
    ) -> WholeValue | None:
        """Return the value of whole pages or sessions; None: the log has none."""
        replayed = self._replayed
        if not replayed.has_pages:
            return None
        page, slot = replayed.page(), replayed.slot()
        return whole_value(
            unit,
            columns,
            predictions,
            page if unit == "page" else replayed.session(),
            (slot,) if unit == "page" else (self._at_ms, page, slot),
            of_log=tuple(r for r in refusals if r.gate in OF_LOG),
            level=self._level,
            force=self._force,
        )

    def _estimates(self, columns: Columns, predictions: RewardPredictions) -> tuple[Estimate, ...]:
        return estimates_of(columns, predictions, self._level, self._reward_range, self._estimators)

    def _parts(
        self,
        place: int,
        columns: Columns,
        predictions: RewardPredictions,
        refusals: tuple[GateFailure, ...],
    ) -> list[SegmentReport]:
        """Return the segments' parts; a refusal of the whole log applies to each of them."""
        of_log = tuple(r for r in refusals if r.gate in OF_LOG)
        unsupported = self._replayed.unsupported(place)
        return [
            part
            for segment in self._segments
            for part in segment_reports(
                segment,
                self._replayed.parts(segment),
                columns,
                predictions,
                unsupported,
                gates=self._gates,
                of_log=of_log,
                level=self._level,
                force=self._force,
            )
        ]

    def _health(self, place: int, columns: Columns) -> EvaluationHealth:
        unsupported = unsupported_share(columns, self._replayed.unsupported(place))
        largest = self._replayed.largest_weights[place]
        return EvaluationHealth(
            **msgspec.structs.asdict(weights_of(columns)),
            log=self.log_health,
            shape=shape_of(columns),
            unsupported_share=unsupported,
            largest_possible_weight=None if unsupported is None else largest,
            drift=drift_of(columns, self._at_ms),
        )
