"""The learning policy: Vowpal Wabbit beside an exact posterior of main and item effects.

VW learns the posterior's residuals from pairs of columns, and its predictions are shrunk by their
past accuracy. Scores add both and an exploration bonus; VW's own explorers are not used.
Derivation, costs and rejected alternatives: `docs/decisions/hybrid-bandit.md`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import cast

import msgspec
import numpy as np
from vowpal_wabbit_next import CBLabel, TextFormatParser, Workspace

from env.vocabulary import Bools, Context, Features, Float32s, Floats, Interaction
from policies.item_effects import ItemEffects
from policies.main_effects import N_COLUMNS, MainEffects, Worth
from policies.vowpal_args import VowpalArgs
from policies.vowpal_batch import Batch, Pair, Watch
from policies.vowpal_kernel import Kernel, VowpalScorer, make_layout, without_own_rewards

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
    worth: Worth
    n_events: int
    n_actions: int
    refusals: dict[str, int]


class VowpalPolicy:
    """The hybrid bandit as a Learner.

    Learning is a deterministic fold: the same interactions in the same order give the same
    `to_bytes()`, however they were cut into batches and wherever `from_bytes` came between. The
    name stays that of the starting version: serve `frozen(version)`.
    """

    def __init__(self, args: VowpalArgs | None = None, version: int = 0) -> None:
        """Start with an empty model; None stands for the default arguments."""
        self.args = args or VowpalArgs()
        self.version = version
        self._layout = make_layout(self.args.bits)
        self._command = self.args.command()
        self._current: VowpalScorer | None = None
        self._workspace = Workspace(self._command)
        self._effects = ItemEffects(
            self._layout.mask + 1, N_COLUMNS, self.args.item_sd, self.args.item_memory
        )
        self._main = MainEffects(self.args.main_sd, self.args.main_memory, self.args.match_sd)
        self._worth = Worth()
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
        """The number of refused interactions by reason (see `VowpalArgs.refusals`)."""
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

    def frozen(self, version: int) -> VowpalScorer:
        """Return the current policy for serving, under this version."""
        vw, (main, covariance) = self._workspace.weights()[:, 0, 0], self._main.posterior()
        kernel = Kernel(self._layout, vw, main, self._worth.share(self._effects.noise))
        beliefs = self._effects.beliefs(main, covariance)
        return VowpalScorer(kernel, self.args.explorer, version, beliefs, self.args.hopes())

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Learn from these interactions, in this order; refused ones are counted.

        The caller leaves out censored interactions (`env.reward.is_censored`).

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
        learned = self._accept(interactions)
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
            raise PoisonedModel(
                f"{trouble} in {len(learned)} interactions up to "
                f"{learned[-1].decision_id}; rolled back to {self._n_events} learned"
            )

    def to_bytes(self) -> bytes:
        """Return the learned state."""
        return msgspec.msgpack.encode(self._state(), order="deterministic")

    @classmethod
    def from_bytes(cls, data: bytes, args: VowpalArgs, version: int) -> "VowpalPolicy":
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

    def _scorer(self) -> VowpalScorer:
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

    def _accept(self, interactions: Sequence[Interaction]) -> list[Interaction]:
        """Return the interactions that may be learned from; count the others."""
        accepted = []
        for interaction, reason in zip(interactions, self.args.refusals(interactions), strict=True):
            if not reason:
                accepted.append(interaction)
                continue
            self._refusals[reason] = self._refusals.get(reason, 0) + 1
            _log.warning("refused decision=%s reason=%s", interaction.decision_id, reason)
        return accepted

    def _learn_all(self, interactions: Sequence[Interaction]) -> str:
        """Learn in order; return the reason of the first bad prediction, else ''."""
        batch, pair = Batch.of(interactions, self._layout), Pair()
        watch = Watch(self._layout, self._workspace.weights())
        for k, interaction in enumerate(interactions):
            trouble = self._learn_one(interaction, batch, k, pair, watch)
            if trouble:
                return trouble
        return ""

    def _learn_one(
        self, interaction: Interaction, batch: Batch, k: int, pair: Pair, watch: Watch
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

    >>> from env.features import N_ACTION, N_SHARED
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
    parser = TextFormatParser(Workspace(VowpalArgs(bits=bits).command()))

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
