"""Whether slots reserved for uploads are drawn as their pages say: again from the seed, and in sum.

Each page with a reserved slot is drawn again from its record and its seed: candidate by candidate
and probability by probability it must be the same. And over all reserved slots the draws must
follow their distributions: each is turned into a uniform number, as in `env.draw_audit`, whose
counts over ten cells are compared with equal ones (Pearson's chi-square). To judge more draws than
a run has, each page can be drawn a few times more with other seeds; the seeds are the only thing
that differs.

Rejected: `DrawAudit` as it is (it judges all slots together, and says only whether something is
wrong beyond all doubt).
"""

import math
from collections.abc import Iterator

import numpy as np

from env.blocks import Blocks
from env.draw_audit import N_CELLS
from env.interface import Policy, draw, fill_page, page_pmfs, page_seed, slot_uniform
from env.records import PageRecord
from env.vocabulary import Bools, Context, Decision, Floats, Page, PageId
from policies.pools import FAIR_START
from serve.bench.served_world import DRAW_KEY
from serve.pipeline import Pipeline


class ReservedDraws:
    """Sees pages, and judges those that have a reserved slot.

    Attributes:
        n_pages: with a reserved slot.
        n_draws: of reserved slots, those with other seeds included.
        mismatches: decisions of these pages that do not come again.
    """

    def __init__(self, again: int, seed: int) -> None:
        """Start without a page.

        Args:
            again: how often each page is drawn once more with another seed.
            seed: of the judge's own uniforms.
        """
        self.n_pages = self.n_draws = self.mismatches = 0
        self._again = again
        self._rng = np.random.default_rng(seed)
        self._blocks = Blocks()
        self._cells = np.zeros(N_CELLS)

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        """Judge a page if it has a reserved slot, see `serve.bench.served_world.Witness`."""
        if all(rule.name != FAIR_START for rule in page.rules):
            return
        whole, policy = self._page(page, pipeline), _Scored(pipeline.served.policy)
        self.n_pages += 1
        seed = page_seed(DRAW_KEY, page.page_id)
        for decision, pmf in page_pmfs(whole, policy):
            action = draw(pmf, slot_uniform(seed, decision.slot))
            same = action == decision.action and min(float(pmf[action]), 1.0) == decision.propensity
            self.mismatches += not same
            self._count(whole, decision, pmf)
        for other in self._other_pages(whole, policy):
            for decision, pmf in page_pmfs(other, policy):
                self._count(other, decision, pmf)

    def p_value(self) -> float:
        """Return the chance of cells as uneven as these, by Wilson and Hilferty (PNAS 1931).

        Raises:
            ValueError: no reserved slot was seen.
        """
        if not self.n_draws:
            raise ValueError("expected a page with a reserved slot, got none")
        expected, df = self.n_draws / N_CELLS, N_CELLS - 1
        ratio = float(np.sum((self._cells - expected) ** 2)) / expected / df
        z = (np.cbrt(ratio) - (1.0 - 2.0 / (9.0 * df))) / math.sqrt(2.0 / (9.0 * df))
        return 0.5 * math.erfc(float(z) / math.sqrt(2.0))

    def _page(self, page: PageRecord, pipeline: Pipeline) -> Page:
        catalogue = pipeline.catalogue
        for k, item_id in enumerate(page.candidates):
            index = catalogue.index_of(item_id)
            if page.blocks[8 * k : 8 * k + 8] not in self._blocks and index is not None:
                self._blocks.add(catalogue.card(index).block)
        return self._blocks.page(page)

    def _other_pages(self, page: Page, policy: Policy) -> Iterator[Page]:
        for k in range(self._again):
            seed = page_seed(DRAW_KEY, PageId(f"{page.context.page_id}/again/{k}"))
            yield fill_page(page.context, policy, page.slots, page.eps, seed)

    def _count(self, page: Page, decision: Decision, pmf: Floats) -> None:
        if page.slots[decision.slot].name != FAIR_START:
            return
        order = np.argsort(pmf, kind="stable")
        ranked = pmf[order]
        place = int(np.flatnonzero(order == decision.action)[0])
        below = float(ranked[:place].sum()) + self._rng.random() * float(ranked[place])
        self._cells[min(int(N_CELLS * below / float(ranked.sum())), N_CELLS - 1)] += 1.0
        self.n_draws += 1


class _Scored:
    """A policy that remembers the scores of the page it was asked for last."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._context: Context | None = None
        self._scores: Floats = np.zeros(0)

    @property
    def name(self) -> str:
        return self._policy.name

    @property
    def explorer(self) -> dict[str, object]:
        return self._policy.explorer

    def score(self, context: Context) -> Floats:
        if context is not self._context:
            self._context, self._scores = context, self._policy.score(context)
        return self._scores

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        return self._policy.explore(scores, mask)
