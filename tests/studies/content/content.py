"""Embeddings of 512 numbers: what projections keep of them, and what a page costs with them.

The embeddings are those of real sentences, the docstrings of Python's own library, and a sentence's
subject is its module. So anybody with the extra `titles` has the same ones.
"""

import importlib
import inspect
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from env.columns.schema import CONTENT_DIM, VECTOR_DIM, static_of
from env.items.content import TitleEncoder, load_titles
from env.items.projections import NO_PROJECTIONS, Projection, learned_projection
from env.records import ItemRecord, pack_halves
from env.vocabulary import Float32s, Floats, Ints
from serve.bench.room import InProcessServer
from serve.config import Config

NOW_MS = 1_767_225_600_000
MODULES = (
    "math",
    "os",
    "email.message",
    "json",
    "re",
    "random",
    "statistics",
    "datetime",
    "decimal",
    "fractions",
    "sqlite3",
    "socket",
    "ssl",
    "threading",
    "asyncio",
    "subprocess",
    "zipfile",
    "tarfile",
    "logging",
    "unittest",
    "argparse",
    "csv",
    "html.parser",
    "xml.etree.ElementTree",
    "http.client",
    "urllib.request",
    "smtplib",
    "imaplib",
    "turtle",
    "calendar",
    "collections",
    "itertools",
    "functools",
    "pickle",
    "shelve",
    "struct",
    "secrets",
    "tempfile",
    "shutil",
    "pathlib",
    "locale",
    "difflib",
    "textwrap",
    "string",
    "codecs",
    "wave",
    "mailbox",
    "mimetypes",
    "ipaddress",
    "uuid",
    "selectors",
    "ctypes",
    "multiprocessing",
    "concurrent.futures",
    "queue",
    "types",
    "enum",
    "dataclasses",
    "inspect",
    "ast",
    "dis",
    "tokenize",
)
LEAST_SENTENCES = 20
"""Of a subject."""

LONGEST = 120
NEAREST = 9
_LEARNED_PAGES = 200
Advance = Callable[[str, int, int], None]


class ContentSize(msgspec.Struct, frozen=True):
    """How much is measured."""

    items: int = 20_000  # of the catalogue that pages are drawn from
    pages: int = 1_000  # drawn of each kind


class ContentResult(msgspec.Struct, frozen=True):
    """What projections keep.

    Attributes:
        sentences: embedded.
        subjects: that they are of.
        precision: share of an item's nearest 9 that are of its subject, by all 512 numbers.
        precision_signs_32: by random signs to 32 numbers, as until 3 December.
        precision_signs_64: by random signs to 64.
        precision_learned: by the learned projection to 64.
        precision_kept: `precision_learned` over `precision`.
        page_ratio: a page's time with vectors of 64 numbers over that with 32.
    """

    sentences: int
    subjects: int
    precision: float
    precision_signs_32: float
    precision_signs_64: float
    precision_learned: float
    precision_kept: float
    page_ratio: float


def run_content(size: ContentSize, config: Config, *, seed: int, advance: Advance) -> ContentResult:
    """Return the figures; the times differ from run to run."""
    embeddings, subjects = embedded_sentences(load_titles(), advance)
    signs = NO_PROJECTIONS.of("vector", embeddings.shape[1])
    learned = learned_projection(embeddings, signs, number=2)
    whole = precision(embeddings, subjects)
    kept = precision(_image(embeddings, learned), subjects)
    return ContentResult(
        sentences=len(embeddings),
        subjects=len(np.unique(subjects)),
        precision=whole,
        precision_signs_32=precision(_image(embeddings, signs)[:, :VECTOR_DIM], subjects),
        precision_signs_64=precision(_image(embeddings, signs), subjects),
        precision_learned=kept,
        precision_kept=kept / whole,
        page_ratio=_page_ratio(size, config, seed, advance),
    )


def precision(rows: Floats | Float32s, subjects: Ints) -> float:
    """Return the share of each row's `NEAREST` other rows that are of its subject.

    Args:
        rows: shape (n, d).
        subjects: shape (n,).
    """
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    near = np.argpartition(-cosine, NEAREST, axis=1)[:, :NEAREST]
    return float(np.mean(subjects[near] == subjects[:, None]))


def embedded_sentences(titles: TitleEncoder, advance: Advance) -> tuple[Float32s, Ints]:
    """Return unit embeddings (n, 512) and the subject of each, (n,)."""
    said: dict[str, int] = {}
    for subject, module in enumerate(MODULES):
        for sentence in _sentences(module):
            said.setdefault(sentence, subject)
    counts = Counter(said.values())
    kept = [pair for pair in sorted(said.items()) if counts[pair[1]] >= LEAST_SENTENCES]
    rows = []
    for k, (sentence, _) in enumerate(kept):
        rows.append(titles.encode(sentence))
        advance("sentences", k + 1, len(kept))
    embeddings = np.array(rows, dtype=np.float32)
    embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return embeddings, np.array([subject for _, subject in kept])


def _sentences(module: str) -> Iterator[str]:
    """Yield the first sentence of the docstring of each public name, and of its methods."""
    owner = importlib.import_module(module)
    for name, member in sorted(vars(owner).items()):
        if name.startswith("_") or not callable(member):
            continue
        yield from _first_sentence(member)
        if inspect.isclass(member) and member.__module__.startswith(module.partition(".")[0]):
            for method, function in sorted(vars(member).items()):
                if not method.startswith("_") and callable(function):
                    yield from _first_sentence(function)


def _first_sentence(member: object) -> Iterator[str]:
    text = (inspect.getdoc(member) or "").replace("\n", " ")
    sentence = re.split(r"(?<=[.!?])\s", text)[0][:LONGEST]
    if len(sentence) > LEAST_SENTENCES:
        yield sentence


def _image(embeddings: Float32s, projection: Projection) -> Floats:
    return np.asarray(embeddings.astype(np.float64) @ projection.weights.T)


def _page_ratio(size: ContentSize, config: Config, seed: int, advance: Advance) -> float:
    """Return the median ratio of two pages' times, drawn in turn from the same items."""
    rooms = [InProcessServer.of(config, size.items, seed, NOW_MS, advance) for _ in range(2)]
    _lengthen(rooms[1], seed)
    for room in rooms:
        room.warm_up(_LEARNED_PAGES, advance)
    ratios = []
    for k in range(size.pages):
        times = [0.0, 0.0]
        for place in (0, 1) if k % 2 else (1, 0):
            began = time.perf_counter()
            rooms[place].draw_page(k, f"page {k}")
            times[place] = time.perf_counter() - began
        ratios.append(times[1] / times[0])
        advance("pages", k + 1, size.pages)
    return float(np.median(ratios))


def _lengthen(room: InProcessServer, seed: int) -> None:
    """Give every item of a room a vector of `CONTENT_DIM` numbers."""
    catalogue = room.pipeline.catalogue
    rng = np.random.default_rng([seed, 8])
    rest = rng.standard_normal((len(catalogue), CONTENT_DIM - VECTOR_DIM)).astype(np.float32)
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    for k, item_id in enumerate(list(catalogue.ids)):
        block = static_of(catalogue.block(k)) + pack_halves(rest[k])
        catalogue.apply(ItemRecord(item_id, NOW_MS, catalogue.item(k), block))
