"""What the network of retention costs when it serves, and whether it is still the one trained.

One page of candidates with the feed's columns is scored by the numpy forward and by the torch
module that training uses, in the same run, on one thread. Apart from that, networks of random
weights go through their bytes, as they do on the way to a replica, and are compared on pages of any
number of candidates.
"""

from functools import partial
from itertools import cycle

import msgspec
import numpy as np

from env.columns.schema import N_ACTION, N_SHARED, quantise
from env.vocabulary import Float32s
from policies.ranker.ranker import Ranker, RankerArgs, tensor_shapes
from policies.training.export import load, make_module, torch_scores
from policies.training.layout import ObservationLayout
from policies.training.module import ModuleConfig, RankerModule
from serve.bench.room import Advance, Clock, timed


def random_tensors(args: RankerArgs, rng: np.random.Generator) -> dict[str, Float32s]:
    """Return random weights: hidden ones as training begins, logits some units apart.

    Float32 is no nearer to the exact sum for larger weights: what two forwards may differ by grows
    with them, whichever computes it.
    """
    tensors: dict[str, Float32s] = {}
    for name, shape in tensor_shapes(args).items():
        drawn = rng.normal(size=shape)
        if name.endswith(".scale"):
            drawn = np.exp(drawn)
        elif name.endswith(".weight"):
            gain = 3.0 if name == "head.outer.weight" else np.sqrt(2.0)
            drawn *= gain / np.sqrt(shape[-1])
        tensors[name] = drawn.astype(np.float32)
    return tensors


def random_ranker(args: RankerArgs, rng: np.random.Generator) -> Ranker:
    """Return a network of such weights."""
    return Ranker(args, random_tensors(args, rng))


MOST_CANDIDATES = 200
N_PAGES = 64
"""Different ones that are timed in turn."""

N_SPARE = 100
"""Calls before the timed ones."""


class RankerResult(msgspec.Struct, frozen=True):
    """Cost and exactness.

    Attributes:
        forward_ms: of the numpy forward for one page of `candidates`, median.
        forward_p99_ms: the same, 99th percentile.
        torch_ms: of the torch module, median.
        ratio: torch_ms / forward_ms.
        max_error: largest difference of a score between the two, over `networks` of random weights
            and pages of 1 to 200 candidates.
        max_score: largest absolute score among them.
        n_bytes: of the network as a file.
    """

    candidates: int
    seed: int
    forward_ms: float
    forward_p99_ms: float
    torch_ms: float
    ratio: float
    max_error: float
    max_score: float
    networks: int
    n_bytes: int


def run_ranker(
    *,
    candidates: int,
    n_calls: int,
    n_networks: int,
    seed: int,
    clock_ns: Clock,
    advance: Advance,
) -> RankerResult:
    """Time both, then compare them.

    Args:
        candidates: of the page that is timed.
        n_calls: timed, of each.
        n_networks: compared, each on all pages of 1 to MOST_CANDIDATES candidates.
        seed: of weights and columns.
        clock_ns: a steady clock.
        advance: told of progress.
    """
    rng = np.random.default_rng(seed)
    module = make_module(
        ModuleConfig.of(ObservationLayout(N_SHARED, candidates, N_ACTION)), seed=seed
    )
    ranker = _installed(module, rng)
    pages = [_page(rng, candidates) for _ in range(N_PAGES)]
    forward_ms: list[float] = []
    torch_ms: list[float] = []
    for call, (user, items) in zip(range(N_SPARE + n_calls), cycle(pages), strict=False):
        # In turn, so that whatever else the machine does falls on both.
        forward_s = timed(partial(ranker.scores, user, items), clock_ns)[1]
        torch_s = timed(partial(torch_scores, module, user[None], items[None]), clock_ns)[1]
        if call >= N_SPARE:
            forward_ms.append(1e3 * forward_s)
            torch_ms.append(1e3 * torch_s)
            advance("pages", len(forward_ms), n_calls)
    errors, greatest = [], []
    for network in range(n_networks):
        error, score = _compare(module, rng)
        errors.append(error)
        greatest.append(score)
        advance("networks", network + 1, n_networks)
    p50, p99 = np.percentile(forward_ms, [50, 99])
    torch_p50 = float(np.median(torch_ms))
    return RankerResult(
        candidates=candidates,
        seed=seed,
        forward_ms=float(p50),
        forward_p99_ms=float(p99),
        torch_ms=torch_p50,
        ratio=torch_p50 / float(p50),
        max_error=max(errors),
        max_score=max(greatest),
        networks=n_networks,
        n_bytes=len(ranker.to_bytes()),
    )


def _installed(module: RankerModule, rng: np.random.Generator) -> Ranker:
    """Return a new network as a replica reads it, after the module was given the same."""
    ranker = random_ranker(module.settings.args, rng)
    load(module, ranker)
    return Ranker.from_bytes(ranker.to_bytes())


def _compare(module: RankerModule, rng: np.random.Generator) -> tuple[float, float]:
    """Return the largest error and the largest score of a new network."""
    ranker = _installed(module, rng)
    error = greatest = 0.0
    for k in range(1, MOST_CANDIDATES + 1):
        user, items = _page(rng, k)
        expected = torch_scores(module, user[None], items[None])[0]
        error = max(error, float(np.abs(ranker.scores(user, items) - expected).max()))
        greatest = max(greatest, float(np.abs(expected).max()))
    return error, greatest


def _page(rng: np.random.Generator, k: int) -> tuple[Float32s, Float32s]:
    """Return columns of a user and k candidates, quantised as the feed's are."""
    return quantise(rng.normal(size=N_SHARED)), quantise(rng.normal(size=(k, N_ACTION)))
