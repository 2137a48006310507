"""The learning policy: Vowpal Wabbit beside an exact posterior of main and item effects.

VW learns the posterior's residuals from pairs of columns, and its predictions are shrunk by their
past accuracy. Scores add both and an exploration bonus; VW's own explorers are not used.
Derivation, costs and rejected alternatives: `docs/decisions/hybrid-bandit.md`.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
from vowpal_wabbit_next import CBLabel, TextFormatParser, Workspace
from vowpal_wabbit_next import Example as VowpalExample

from env.columns.schema import N_ACTION, N_SHARED
from env.records import unpack_halves
from env.vocabulary import (
    Bools,
    Context,
    Correction,
    Example,
    Features,
    Float32s,
    Floats,
    Interaction,
    Ints,
    interaction_of,
)
from policies.bandit.item_effects import ItemEffects
from policies.bandit.main_effects import (
    MAIN_USER_COLUMNS,
    N_COLUMNS,
    N_USER_COLUMNS,
    MainEffects,
    ResidualShrinkage,
)
from policies.bandit.scorer import (
    OWN_REWARDS,
    HybridBanditScorer,
    Kernel,
    WeightLayout,
    make_layout,
    without_own_rewards,
)
from policies.bandit.settings import HybridBanditArgs

_WEIGHT_COLUMNS = 4
"""VW keeps this many numbers for each weight, the weight itself first."""

Indices = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class SparseFeatures:
    """The nonzero features of one example, preceded by the constant."""

    rows: Ints  # rows of `PredictionMonitor`'s grid, 0 is the constant
    indices: Indices  # VW's, without the constant
    values: Float32s  # the constant's, 1, comes first


@dataclass(frozen=True, slots=True)
class LearningBatch:
    """The inputs of learning for accepted interactions, in their order."""

    slots: list[int]  # of the interactions' items
    columns: Floats  # (n, N_COLUMNS) explanatory columns of the main effects
    shared: list[SparseFeatures]  # shared features of each, as VW sees them
    action: list[SparseFeatures]  # action features of each, as VW sees them
    dense: Float32s  # (n, 1 + N_ACTION) a constant and the action features, zeros included

    @classmethod
    def of(cls, interactions: Sequence[Interaction], layout: WeightLayout) -> "LearningBatch":
        """Decode interactions that were accepted."""
        n = len(interactions)
        shared = unpack_halves(b"".join(i.shared for i in interactions)).reshape(n, N_SHARED)
        action = unpack_halves(b"".join(i.action for i in interactions)).reshape(n, N_ACTION)
        action[:, OWN_REWARDS] = 0.0
        columns = np.ones((n, N_COLUMNS))
        columns[:, 1:N_USER_COLUMNS] = shared[:, MAIN_USER_COLUMNS]
        columns[:, N_USER_COLUMNS:] = action
        keys = np.array([i.item_key for i in interactions], dtype=np.uint64)
        return cls(
            layout.items(keys).tolist(),
            columns,
            _sparse(shared, layout.shared),
            _sparse(action, layout.action),
            np.concatenate([np.ones((n, 1), dtype=np.float32), action], axis=1),
        )


def _sparse(values: Float32s, indices: Ints) -> list[SparseFeatures]:
    """Return each row without its zeros, which VW's norms would count as features."""
    rows, columns = np.nonzero(values)
    places = indices.astype(np.uint64)[columns]
    ends = np.cumsum(np.bincount(rows, minlength=len(values))).tolist()
    begins = [0, *ends[:-1]]
    after = np.arange(len(rows)) + rows + 1  # each row's constant comes first
    with_constant = np.zeros(len(rows) + len(values), dtype=np.int64)
    with_constant[after] = columns + 1
    numbers = np.ones(len(with_constant), dtype=np.float32)
    numbers[after] = values[rows, columns]
    return [
        SparseFeatures(with_constant[a + k : b + k + 1], places[a:b], numbers[a + k : b + k + 1])
        for k, (a, b) in enumerate(zip(begins, ends, strict=True))
    ]


class ExamplePair:
    """The two examples of an interaction, refilled each time, since making one costs as much."""

    def __init__(self) -> None:
        self._shared, self._action = VowpalExample(), VowpalExample()
        self._shared.set_label(CBLabel(shared=True))
        self._groups = self._shared["U"], self._action["A"]

    def fill(
        self, shared: SparseFeatures, action: SparseFeatures, label: CBLabel
    ) -> list[VowpalExample]:
        """Return the shared example and that of the chosen action."""
        for group, sparse in zip(self._groups, (shared, action), strict=True):
            group.truncate_to(0)
            # The stub names scalar types where it means dtypes.
            group.push_many_features(sparse.indices, sparse.values[1:])  # type: ignore[arg-type]
        self._action.set_label(label)
        return [self._shared, self._action]


class PredictionMonitor:
    """Predicts an interaction's cost from VW's live weights, to check its bounds while it learns.

    It is the sum in `Kernel` over the nonzero features, in single precision: for a bound, not for a
    score.
    """

    def __init__(self, layout: WeightLayout, weights: Float32s) -> None:
        """Use a workspace's live weights, shape (2^bits, 1, 4)."""
        grid = np.empty((1 + N_SHARED, 1 + N_ACTION), dtype=np.int64)
        grid[0, 0], grid[0, 1:], grid[1:, 0] = layout.constant, layout.action, layout.shared
        grid[1:, 1:] = layout.pairs
        self._grid = grid * _WEIGHT_COLUMNS
        self._weights: Float32s = weights.reshape(-1)

    def predict(self, shared: SparseFeatures, action: Float32s) -> float:
        """Return the predicted cost of an action, one row of `LearningBatch.dense`."""
        weights = self._weights.take(self._grid.take(shared.rows, axis=0))
        return float(weights.dot(action).dot(shared.values))


_log = logging.getLogger(__name__)
KEPT_COLUMNS = 3
"""VW keeps weight, gradient and norm of a feature; the fourth column is scratch."""


class PoisonedModel(RuntimeError):  # noqa: N818 - it is the model that is in error
    """A batch made the model unusable; the policy was rolled back to the state before it."""


class _State(msgspec.Struct, frozen=True, array_like=True):
    """The learned state, and the arguments under which it was learned."""

    learned_under: list[str]
    model: bytes
    effects: bytes
    main: bytes
    worth: ResidualShrinkage
    n_events: int
    n_actions: int
    refusals: dict[str, int]


class HybridBandit:
    """The hybrid bandit as a Learner.

    Learning is a deterministic fold: the same interactions in the same order give the same
    `to_bytes()`, however they were cut into batches and wherever `from_bytes` came between. The
    name stays that of the starting version: serve `frozen(version)`.
    """

    def __init__(self, args: HybridBanditArgs | None = None, version: int = 0) -> None:
        """Start with an empty model; None stands for the default arguments."""
        self.args = args or HybridBanditArgs()
        self.version = version
        self._layout = make_layout(self.args.bits)
        self._command = self.args.command()
        self._current: HybridBanditScorer | None = None
        self._workspace = Workspace(self._command)
        self._effects = ItemEffects(
            self._layout.mask + 1, N_COLUMNS, self.args.item_sd, self.args.item_memory
        )
        self._main = MainEffects(self.args.main_sd, self.args.main_memory, self.args.match_sd)
        self._worth = ResidualShrinkage()
        self._n_events = self._n_actions = 0
        self._refusals: dict[str, int] = {}

    @property
    def name(self) -> str:
        """`vowpal@version`."""
        return self._scorer().name

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return self._scorer().explorer

    @property
    def n_events(self) -> int:
        """The number of learned interactions."""
        return self._n_events

    @property
    def refusals(self) -> dict[str, int]:
        """The number of refused interactions by reason (see `HybridBanditArgs.refusals`)."""
        return dict(self._refusals)

    def score(self, context: Context) -> Floats:
        """Return each candidate's expected reward plus exploration bonus, shape (n,)."""
        return self._scorer().score(context)

    def predict(self, context: Context) -> Floats:
        """Return the expected reward of each candidate, shape (n,)."""
        return self._scorer().predict(context)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self.args.explorer.pmf(scores, mask)

    def frozen(self, version: int) -> HybridBanditScorer:
        """Return the current policy for serving, under this version."""
        vw, (main, covariance) = self._workspace.weights()[:, 0, 0], self._main.posterior()
        kernel = Kernel(self._layout, vw, main, self._worth.share(self._effects.noise))
        beliefs = self._effects.beliefs(main, covariance)
        return HybridBanditScorer(
            kernel, self.args.explorer, version, beliefs, self.args.exploration_bonus()
        )

    def learn(self, examples: Sequence[Example]) -> None:
        """Learn from these interactions and corrections, in this order; refused ones are counted.

        Of a correction the difference is learned, under the same propensity. The caller leaves out
        censored interactions (`env.reward.is_censored`).

        Raises:
            PoisonedModel: a prediction for one of them is out of bounds (VW's after it, the
                effects' before it), or at the end a weight is not finite; the policy, counts
                included, is as before. Each one is checked when it is learned, so batches of any
                size find it; that costs 6 us an interaction, the final check and the copy to go
                back to 2 ms a batch.
        """
        before, refusals = self._workspace.serialize(), self.refusals
        kept = self._main.to_bytes(), self._worth, self._n_events, self._n_actions
        self._effects.mark()
        learned = self._accept(examples)
        if not learned:
            return
        self._current = None
        trouble = self._learn_all(learned) or self._examine()
        if trouble:
            self._workspace = Workspace(self._command, model_data=before)
            main, self._worth, self._n_events, self._n_actions = kept
            self._main.restore(main)
            self._effects.undo()
            self._refusals = refusals
            last = interaction_of(learned[-1]).decision_id
            raise PoisonedModel(
                f"{trouble} in {len(learned)} interactions up to {last}; rolled back to "
                f"{self._n_events} learned"
            )

    def to_bytes(self) -> bytes:
        """Return the learned state."""
        return msgspec.msgpack.encode(self._state(), order="deterministic")

    @classmethod
    def from_bytes(cls, data: bytes, args: HybridBanditArgs, version: int) -> "HybridBandit":
        """Return the policy that `to_bytes` was called on, under this version.

        VW trusts a model's bytes (a changed bit may load and predict something else, or worse):
        load only bytes that a snapshot's manifest verifies.

        Raises:
            ValueError: the model was learned under other arguments than these (explorer, optimism
                and bounds may differ), or an item's effect is no finite number.
            msgspec.DecodeError: these are no bytes of a VowpalPolicy.
        """
        state = msgspec.msgpack.decode(data, type=_State)
        policy = cls(args, version)
        if state.learned_under != args.learned_under():
            raise ValueError(
                f"expected a model learned under {' '.join(args.learned_under())}, "
                f"got one learned under {' '.join(state.learned_under)}"
            )
        policy._restore(state)
        return policy

    def _scorer(self) -> HybridBanditScorer:
        if self._current is None:
            self._current = self.frozen(self.version)
        return self._current

    def _state(self) -> _State:
        return _State(
            self.args.learned_under(),
            self._workspace.serialize(),
            self._effects.to_bytes(),
            self._main.to_bytes(),
            self._worth,
            self._n_events,
            self._n_actions,
            self.refusals,
        )

    def _restore(self, state: _State) -> None:
        self._workspace = Workspace(self._command, model_data=state.model)
        self._effects.restore(state.effects)
        self._main.restore(state.main)
        self._worth = state.worth
        self._n_events = state.n_events
        self._n_actions = state.n_actions
        self._refusals = dict(state.refusals)
        self._current = None

    def _accept(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples that may be learned from; count the others."""
        accepted = []
        for example, reason in zip(examples, self._reasons(examples), strict=True):
            if not reason:
                accepted.append(example)
                continue
            self._refusals[reason] = self._refusals.get(reason, 0) + 1
            refused = interaction_of(example).decision_id
            _log.warning("refused decision=%s reason=%s", refused, reason)
        return accepted

    def _reasons(self, examples: Sequence[Example]) -> list[str]:
        """Return for each example the reason why it is refused; empty if it is not.

        A correction of what was refused is refused too: there is nothing to correct.
        """
        reasons = self.args.refusals([interaction_of(example) for example in examples])
        corrections = [(k, e.before) for k, e in enumerate(examples) if isinstance(e, Correction)]
        earlier = self.args.refusals([before for _, before in corrections])
        for (k, _), reason in zip(corrections, earlier, strict=True):
            reasons[k] = reasons[k] or reason
        return reasons

    def _learn_all(self, examples: Sequence[Example]) -> str:
        """Learn in order; return the reason of the first bad prediction, else ''."""
        known = [interaction_of(example) for example in examples]
        batch, pair = LearningBatch.of(known, self._layout), ExamplePair()
        watch = PredictionMonitor(self._layout, self._workspace.weights())
        for k, example in enumerate(examples):
            if isinstance(example, Correction):
                trouble = self._correct_one(example, batch, k, pair, watch)
            else:
                trouble = self._learn_one(example, batch, k, pair, watch)
            if trouble:
                return trouble
        return ""

    def _correct_one(
        self,
        correction: Correction,
        batch: LearningBatch,
        k: int,
        pair: ExamplePair,
        watch: PredictionMonitor,
    ) -> str:
        """Learn the difference that the k-th of a batch makes; return as `_learn_one` does.

        VW's step is linear in the label, so an example labelled with the present prediction plus
        the difference takes the step that the right label would have added.
        """
        columns, slot = batch.columns[k], batch.slots[k]
        difference = correction.difference
        if not difference or not self._effects.knows(slot):
            return ""
        own = self._effects.own(slot, self._main.weights)
        worth = self._main.expect(columns)
        sparse = batch.shared[k], batch.action[k]
        propensity, weight = correction.after.propensity, self._n_events / self._n_actions
        unknown = CBLabel(label=(0, 0.0, propensity), weight=weight)
        ((_, cost),) = cast(
            "list[tuple[int, float]]",
            self._workspace.predict_one(pair.fill(*sparse, unknown)),
        )
        label = CBLabel(label=(0, cost - difference, propensity), weight=weight)
        self._workspace.learn_one(pair.fill(*sparse, label))
        most = self.args.max_score
        pairs = min(max(-cost, -most), most)
        reward = correction.before.reward - self._worth.share(self._effects.noise) * pairs
        self._worth = self._worth.corrected(pairs, difference)
        self._main.correct(self._effects.correct(own, columns, worth, reward, difference))
        if not abs(predicted := watch.predict(sparse[0], batch.dense[k])) <= most:
            return f"a prediction of {-predicted} is out of bounds (max_score {most})"
        return ""

    def _learn_one(
        self,
        interaction: Interaction,
        batch: LearningBatch,
        k: int,
        pair: ExamplePair,
        watch: PredictionMonitor,
    ) -> str:
        """Learn the k-th of a batch; return the reason if its prediction is bad, else ''."""
        self._n_events += 1
        self._n_actions += interaction.n_actions
        columns, reward = batch.columns[k], interaction.reward
        own = self._effects.own(batch.slots[k], self._main.weights)
        worth = self._main.expect(columns)
        known = worth + own.mean
        left = reward - known
        label = CBLabel(
            label=(0, -left, interaction.propensity), weight=self._n_events / self._n_actions
        )
        shared, action = batch.shared[k], batch.action[k]
        # The result for the one candidate is its number and its cost before learning.
        ((_, cost),) = cast(
            "list[tuple[int, float]]",
            self._workspace.predict_then_learn_one(pair.fill(shared, action, label)),
        )
        most = self.args.max_score
        pairs = min(max(-cost, -most), most)
        share = self._worth.share(self._effects.noise)
        self._worth = self._worth.moved(pairs, left)
        self._main.fold(self._effects.fold(own, columns, worth, reward - share * pairs))
        for expected in (-watch.predict(shared, batch.dense[k]), known):
            if not abs(expected) <= most:
                return f"a prediction of {expected} is out of bounds (max_score {most})"
        return ""

    def _examine(self) -> str:
        kept = self._workspace.weights()[:, 0, :KEPT_COLUMNS]
        if np.isfinite(kept).all() and np.isfinite(self._main.weights).all():
            return ""
        return "a weight is not finite"


def features_text(features: Features) -> list[str]:
    """Return the shortest VW text of the features that VW sees, a line each.

    VW parses it to the same numbers, so it is the other side of a fair comparison.

    >>> from env.columns.schema import N_ACTION, N_SHARED
    >>> shared, actions = np.zeros(N_SHARED, np.float32), np.zeros((1, N_ACTION), np.float32)
    >>> shared[:3], actions[0, 2] = (0.5, 0.0, -1.0), 0.25
    >>> features_text(Features(shared, actions, np.array([7], np.uint64)))
    ['shared |U 0:.5 2:-1', '|A 2:.25']
    """
    seen = without_own_rewards(features)
    shared = "shared |U " + _group_text(seen.shared)
    return [shared, *("|A " + _group_text(row) for row in seen.actions)]


def text_parser(bits: int) -> Callable[[list[str]], None]:
    """Return VW's own text parser of `features_text`, for comparison; its results are dropped."""
    parser = TextFormatParser(Workspace(HybridBanditArgs(bits=bits).command()))

    def parse(lines: list[str]) -> None:
        for line in lines:
            parser.parse_line(line)

    return parse


def _group_text(values: Float32s) -> str:
    numbers = [np.format_float_positional(value, trim="-") for value in values]
    short = [n.replace("0.", ".", 1) if n.lstrip("-").startswith("0.") else n for n in numbers]
    counted = " ".join(f":{number}" for number in short)
    named = " ".join(f"{i}:{short[i]}" for i in np.flatnonzero(values))
    return min(counted, named, key=len)
