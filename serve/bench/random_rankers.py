"""Networks that were not trained, of the sizes that trained ones have: to time and to compare."""

import numpy as np

from env.vocabulary import Float32s
from policies.ranker import Ranker, RankerArgs, tensor_shapes


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
