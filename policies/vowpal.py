"""The learning policy: Vowpal Wabbit as a regressor of cost, in numbers only.

What columns and items are worth by themselves is known exactly, as one posterior
(`policies.main_effects`, `policies.item_effects`). VW learns the cost of the action that was shown
(minus what that leaves over of the reward), weighted by 1 / propensity (`--cb_type mtr`), from
person and scene (U), item (A) and their pairs; it counts as far as its predictions came true, and
the posterior learns from what that share of them leaves over in turn. Scores are read out of all
three (`VowpalScorer`): main effects, VW's share, the item's own effect, and some of its
uncertainty; VW's explorers are not used.

Learning from the shared and the chosen features alone, at a label weight of (events so far /
actions seen so far), is what VW computes itself from full lists, only that it takes 14 us instead
of 550 for 200 candidates. It holds under mtr and under no other type, so the type is no argument.

What hangs on no other interaction is worked out for a batch at once (`policies.vowpal_batch`), and
a batch that went wrong is undone from what it touched: learning costs some 35 us an interaction,
however many items were met.

Rejected: text or JSON examples (VW's JSON parsers crash the process on malformed input), `--l2`
(applied lazily: the weights are then not what predicts), cached examples (32 KB each).
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
    """A batch left the model unusable; the policy is back where it was before that batch."""


class _State(msgspec.Struct, frozen=True, array_like=True):
    """All that learning moves, and the arguments under which it was moved."""

    learned_under: list[str]
    model: bytes
    effects: bytes
    main: bytes
    worth: Worth
    n_events: int
    n_actions: int
    refusals: dict[str, int]


class VowpalPolicy:
    """A Learner on Vowpal Wabbit.

    Learning is a deterministic fold: the same interactions in the same order give the same
    `to_bytes()`, however they were cut into batches and wherever `from_bytes` came between. While
    it learns, its name stays that of the version it started from: serve `frozen(version)`.
    """

    def __init__(self, args: VowpalArgs | None = None, version: int = 0) -> None:
        """Start with an empty model.

        Args:
            args: the default ones if None.
            version: as it stands in `name`.
        """
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
        """Return the number of interactions that were learned."""
        return self._n_events

    @property
    def refusals(self) -> dict[str, int]:
        """Return how many interactions were refused, by reason (see `VowpalArgs.refusals`)."""
        return dict(self._refusals)

    def score(self, context: Context) -> Floats:
        """Return each candidate's expected reward and what is hoped for beyond it, shape (n,)."""
        return self._scorer().score(context)

    def predict(self, context: Context) -> Floats:
        """Return the expected reward of each candidate, shape (n,)."""
        return self._scorer().predict(context)

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the explorer's pmf."""
        return self.args.explorer.pmf(scores, mask)

    def frozen(self, version: int) -> VowpalScorer:
        """Return the policy as it is now, for serving, under this version."""
        vw, (main, covariance) = self._workspace.weights()[:, 0, 0], self._main.posterior()
        kernel = Kernel(self._layout, vw, main, self._worth.share(self._effects.noise))
        beliefs = self._effects.beliefs(main, covariance)
        return VowpalScorer(kernel, self.args.explorer, version, beliefs, self.args.hopes())

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Learn from these interactions, in this order; those that are refused are counted.

        Censored ones (`env.reward.is_censored`) are for the caller to leave out.

        Raises:
            PoisonedModel: a prediction for one of them is out of bounds (VW's after it, that of the
                effects before it), or at the end a weight is not finite; the policy, counts
                included, is as it was before. Each is examined when it was learned, so that no cut
                into batches hides one; that costs 6 us an interaction (`Watch`), the look at all
                weights and the copy to go back to 2 ms a batch.
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
        """Return all that learning has moved."""
        return msgspec.msgpack.encode(self._state(), order="deterministic")

    @classmethod
    def from_bytes(cls, data: bytes, args: VowpalArgs, version: int) -> "VowpalPolicy":
        """Return the policy that `to_bytes` was called on, under this version.

        VW trusts a model's bytes (a changed bit may load and predict something else, or worse):
        load only what a snapshot's manifest vouches for.

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
        """Return those that may be learned from; count the others."""
        accepted = []
        for interaction, reason in zip(interactions, self.args.refusals(interactions), strict=True):
            if not reason:
                accepted.append(interaction)
                continue
            self._refusals[reason] = self._refusals.get(reason, 0) + 1
            _log.warning("refused decision=%s reason=%s", interaction.decision_id, reason)
        return accepted

    def _learn_all(self, interactions: Sequence[Interaction]) -> str:
        """Learn in order; return what is wrong with the first bad prediction, else nothing."""
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
        """Learn the k-th of a batch; return what is wrong with its prediction, if anything is."""
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
        # Of the one candidate: its number, and its cost before learning.
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
    """Return the shortest VW text that means to VW what it sees of these features, a line each.

    VW parses it to the same numbers, which makes it the other side of a fair comparison.

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
    """Return VW's own text parser of `features_text`, for comparison; what it parses is dropped."""
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
