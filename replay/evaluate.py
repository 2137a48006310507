"""Counterfactual evaluation: what policies would have earned on the decisions of a log.

One row is one decision. At slot j the target's probability is that of `env.interface.slot_pmf`
under the logged rule and floor, given the cards that were logged on the slots before; so the
value is per seen card, on the logged candidates and prefixes. It compares rankers, not
retrieval (candidates are as logged), and not what a policy does to later pages: compare those
by a traffic split.

The log is read batch by batch (`replay.sources`), all targets are asked at once, and what is kept
of a decision is a dozen numbers on disk (`replay.replaying`). Where the log cannot answer for a
target, or for a part of it, there is no number but the gates that it did not pass (`replay.gates`).

Rejected: the weight of a whole prefix for each slot (product of all slots before it): exact for the
value of whole pages, with effectively no decisions left after a few slots.
"""

from collections.abc import Callable, Sequence

import msgspec

from env.interface import Policy
from env.vocabulary import Ints
from replay.batch_models import ByPage, Fit, fit_rewards
from replay.calibration import Arms
from replay.columns import Columns, Predictions
from replay.default import DEFAULT
from replay.estimates import estimates_of
from replay.estimators import dr_gain, logged
from replay.gates import OF_LOG, Gates, Refusal
from replay.health import Health, LogHealth, drift_of, shape_of, weights_of
from replay.importance import Importance
from replay.intervals import LEVEL, Estimate
from replay.parts import Part, parts_of, unsupported_share
from replay.replaying import Oracle, Replayed, replay_targets
from replay.reward_model import Predictor
from replay.sources import Source, Watched
from replay.spill import Spill
from replay.targets import PolicyTarget, Target

GATES = Gates()

Advance = Callable[[int], None]
"""Told how many decisions were done since it was last told."""


class Report(msgspec.Struct, frozen=True):
    """What a log says about a policy.

    Attributes:
        policy: the target, `name@version`.
        logged_policies: those that made the log.
        reward_version: of the reward that was joined with.
        logged: what the log's own policies earned.
        estimates: the default one first, then one an estimator; none where the log was refused.
        gain: by how much dr, not the default, exceeds what was logged, paired; None likewise.
        health: of the log, for this target.
        refusals: the gates that the log did not pass.
        forced: estimates are there although it did not pass: do not rely on them.
        parts: the same of parts of the log, each with its own gates.
        learned_share: of the decisions, those that the target learned from, which flatter it.
        truth: the target's true value on the same decisions; None without an oracle.
    """

    policy: str
    logged_policies: tuple[str, ...]
    reward_version: int
    logged: Estimate
    estimates: tuple[Estimate, ...]
    gain: Estimate | None
    health: Health
    refusals: tuple[Refusal, ...] = ()
    forced: bool = False
    parts: tuple[Part, ...] = ()
    learned_share: float = 0.0
    truth: float | None = None

    def estimate(self, estimator: str = DEFAULT) -> Estimate:
        """Return the estimate of an estimator.

        Raises:
            KeyError: there is none of that name, or none at all, since the log was refused.
        """
        for estimate in self.estimates:
            if estimate.estimator == estimator:
                return estimate
        if not self.estimates:
            raise KeyError(f"the log was refused: {'; '.join(map(str, self.refusals))}")
        raise KeyError(f"expected one of {[e.estimator for e in self.estimates]}, got {estimator}")


class Evaluation(msgspec.Struct, frozen=True):
    """What a log says about several policies.

    Attributes:
        default: the one estimator that was chosen beforehand; the others are to compare with.
        level: of the intervals.
        logged: what the log's own policies earned.
        health: of the log, whatever the target.
        reports: one a policy, in the order in which they were given.
        hidden_values: by segment, how many of its values are not among the parts: those with the
            fewest decisions, where there are more than `replay.replaying.MAX_VALUES`.
        importance: of features; None: it was not asked for.
    """

    default: str
    level: float
    logged: Estimate
    health: LogHealth
    reports: tuple[Report, ...]
    hidden_values: dict[str, int] = {}
    importance: Importance | None = None


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
) -> Report:
    """Return what a log says about a policy.

    Args:
        source: decisions with exact propensities.
        policy: the target.
        predictor: of rewards, not fitted on what it scores; None: as `evaluate_all` does it.
        oracle: in a world that knows the truth, what it is.
        level: of the intervals, in (0, 1).
        gates: that the log must pass.
        force: estimate where it does not; the report is marked.
        advance: told of progress.

    Raises:
        ValueError: as `evaluate_all`.
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
    arms: Arms | None = None,
    oracle: Oracle | None = None,
    level: float = LEVEL,
    gates: Gates = GATES,
    force: bool = False,
    advance: Advance | None = None,
) -> Evaluation:
    """Return what a log says about several policies, all of them asked in one pass.

    Args:
        source: decisions with exact propensities.
        targets: at least one.
        fit: makes the reward model, cross-fitted.
        segments: names of segments of the source, by which to report too.
        arms: of the experiment, as the log has them; a gate.
        oracle: in a world that knows the truth, what it is.
        level: of the intervals, in (0, 1).
        gates: that the log must pass for a target.
        force: estimate where it does not; the report is marked.
        advance: told of decisions that were done: all of them to fit, and all to ask.

    Raises:
        ValueError: no target, no decision, decisions of one person only, a segment that the source
            does not have, a pmf of a target that is not one, or a target whose own code fails.
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
        asking = _Asking(source, replayed, arms, segments, level, gates, force)
        reports = tuple(asking.report(place, target) for place, target in enumerate(targets))
        hidden = {name: n for name in segments if (n := replayed.n_hidden(name))}
        return Evaluation(DEFAULT, level, reports[0].logged, asking.log_health, reports, hidden)


class _Asking:
    """Makes the report of each target from what was replayed."""

    def __init__(
        self,
        source: Source,
        replayed: Replayed,
        arms: Arms | None,
        segments: Sequence[str],
        level: float,
        gates: Gates,
        force: bool,
    ) -> None:
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
            calibration=replayed.calibrating.result(),
            arms=arms,
        )

    def report(self, place: int, target: Target) -> Report:
        columns, predictions = self._replayed.columns(place), self._replayed.predictions(place)
        health = self._health(place, columns)
        refusals = self._gates.refusals(health)
        agrees = health.ess > 0.0
        shown = agrees and (self._force or not refusals)
        return Report(
            policy=target.name,
            logged_policies=self._replayed.policies,
            reward_version=self._reward_version,
            logged=logged(columns, self._level),
            estimates=(
                estimates_of(columns, predictions, self._level, self._reward_range) if shown else ()
            ),
            gain=dr_gain(columns, predictions, self._level) if shown else None,
            health=health,
            refusals=refusals,
            forced=shown and bool(refusals),
            parts=tuple(self._parts(place, columns, predictions, refusals)),
            learned_share=target.learned_share if isinstance(target, PolicyTarget) else 0.0,
            truth=self._replayed.truth(place),
        )

    def _parts(
        self,
        place: int,
        columns: Columns,
        predictions: Predictions,
        refusals: tuple[Refusal, ...],
    ) -> list[Part]:
        """Return the parts; what speaks against the whole log speaks against each of them."""
        of_log = tuple(r for r in refusals if r.gate in OF_LOG)
        unsupported = self._replayed.unsupported(place)
        return [
            part
            for segment in self._segments
            for part in parts_of(
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

    def _health(self, place: int, columns: Columns) -> Health:
        unsupported = unsupported_share(columns, self._replayed.unsupported(place))
        largest = self._replayed.largest_weights[place]
        return Health(
            **msgspec.structs.asdict(weights_of(columns)),
            log=self.log_health,
            shape=shape_of(columns),
            unsupported_share=unsupported,
            largest_possible_weight=None if unsupported is None else largest,
            drift=drift_of(columns, self._at_ms),
        )
