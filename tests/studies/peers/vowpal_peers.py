"""Vowpal Wabbit's own explorers for pages of one card: online cover and RND, to compare with.

The whole of VW as its users run it (`--cb_explore_adf` with its exploration), on the features that
`policies.bandit.policy` sees: user and scene (U), item (A), their pairs, and a weight each item
(I). Its pmf comes back as scores, log p, for an explorer that renormalises over what is left; that
is VW's own distribution where everything is left: on the first slot of a page. So they are
comparators for pages of one card, and not for serving (RND gives probability 0 to most).

Cover keeps several policies at once, and explores where they disagree (Agarwal et al., "Taming the
Monster", ICML 2014); RND explores where a linear map cannot tell what a random one said (Burda,
Edwards, Storkey and Klimov, "Exploration by Random Network Distillation", ICLR 2019).

Both learn from all candidates of a page, which no `Interaction` holds: hence `learn_pages`. Rates
are VW's defaults: in the world of `make study ARGS='coldstart'` (3,000 rounds) cover earned .54
with them and .49 with those of `policies.bandit.settings`, RND .61 and .50.
"""

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
from vowpal_wabbit_next import CBLabel, Example, Workspace

from env.vocabulary import Bools, Context, Features, Float32s, Floats, Interaction, Ints, Page
from policies.bandit.scorer import make_layout
from policies.explorers import Softmax, explorer_args

LEAST_CHANCE = 1e-30
COVER = ("--cover", "16", "--psi", "0.1")
RND = ("--rnd", "3", "--epsilon", "0")


class VowpalPeer:
    """VW with an exploration of its own: a Policy that learns from pages of one card."""

    def __init__(self, name: str, exploration: Sequence[str], bits: int = 18) -> None:
        """Start with an empty model, at VW's own rates.

        Args:
            name: `name@version`.
            exploration: VW's options of it, such as `COVER`.
            bits: the model has 2^bits weights, each of its policies.
        """
        self.name = name
        self._layout = make_layout(bits)
        self._explorer = Softmax(1.0)
        command = f"--cb_explore_adf --cb_type mtr --quadratic UA --bit_precision {bits} --quiet"
        self._workspace: Workspace[Literal[False]] = Workspace([*command.split(), *exploration])

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments."""
        return explorer_args(self._explorer)

    def pmf(self, features: Features) -> Floats:
        """Return VW's own distribution over the candidates, shape (n,), as near to 1 as it adds."""
        predicted = self._workspace.predict_one(self._examples(features))
        chances = np.zeros(len(features.keys))
        for action, chance in cast("list[tuple[int, float]]", predicted):
            chances[action] = chance
        return chances

    def score(self, context: Context) -> Floats:
        """Return the logarithm of VW's probability of each candidate, shape (n,)."""
        return np.asarray(np.log(np.maximum(self.pmf(context.features), LEAST_CHANCE)))

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return VW's probabilities, over the mask."""
        return self._explorer.pmf(scores, mask)

    def learn_pages(self, pages: Sequence[Page], interactions: Sequence[Interaction]) -> None:
        """Learn from pages of one card and what came of each, in this order.

        Raises:
            ValueError: a page has more cards than one, or what came of it is of another.
        """
        for page, interaction in zip(pages, interactions, strict=True):
            if [d.decision_id for d in page.decisions] != [interaction.decision_id]:
                raise ValueError(
                    f"expected a page of the one card {interaction.decision_id}, "
                    f"got {len(page.decisions)} cards of page {page.context.page_id}"
                )
            label = CBLabel(label=(0, -interaction.reward, interaction.propensity))
            action = page.decisions[0].action
            self._workspace.learn_one(self._examples(page.context.features, action, label))

    def _examples(
        self, features: Features, chosen: int = -1, label: CBLabel | None = None
    ) -> list[Example]:
        """Return the shared example and one a candidate, of which the chosen one has the label."""
        layout, shared = self._layout, Example()
        _push(shared, "U", layout.shared, features.shared)
        shared.set_label(CBLabel(shared=True))
        examples, one = [shared], np.ones(1, dtype=np.float32)
        places = layout.items(features.keys)
        for action, row in enumerate(features.actions):
            example = Example()
            _push(example, "A", layout.action, row)
            _push(example, "I", places[action : action + 1], one)
            example.set_label(label if label is not None and action == chosen else CBLabel())
            examples.append(example)
        return examples


def _push(example: Example, group: str, places: Ints, values: Float32s) -> None:
    some = np.flatnonzero(values)  # as VW's parser does, which leaves zeros out
    # The stub names scalar types where it means dtypes.
    example[group].push_many_features(
        places[some].astype(np.uint64),  # type: ignore[arg-type]
        values[some],  # type: ignore[arg-type]
    )
