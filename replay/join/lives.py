"""Reader of users' complete session histories from a log, in bounded memory.

Users are assigned to shards by a hash. Pages are first written to their shard's file; then each
shard is sorted and stored as memory-mapped columns (`env.pages.lives.Lives`). Memory holds one
batch and one shard. The rules for gaps and the rejected alternatives:
`docs/decisions/sequence-estimators.md`.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import BinaryIO

import msgspec
import numpy as np

from env.pages.lives import NEVER, NO_PAGE, Halves, Lives
from env.records import item_key, pack_halves
from env.vocabulary import Bools, Page
from replay.source import Batch

SHARD_STEPS = 20_000
"""Approximate steps of a shard: 40 MB of columns on pages of one card, 10 MB on those of 5."""

_DAY_MS = 86_400_000
_LENGTH = 4


class _PageSteps(msgspec.Struct, array_like=True):
    """A page with its decisions that were seen and whose end is known."""

    user: str
    session: str
    at_ms: int
    eps: float
    n_user: int
    shared: bytes  # float16
    rows: bytes  # float16, (n, F)
    n: int
    masks: bytes  # (r, n) one byte each
    floors: bytes
    actions: list[int]
    propensities: list[float]
    rewards: list[float]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_PageSteps)


def read_life_shards(
    batches: Iterable[Batch], *, window_days: int, n_shards: int = 1
) -> tuple[Lives, ...]:
    """Return the lives of a log, sharded by the hash of the user.

    Args:
        batches: batches of our own log, whose pages name their session.
        window_days: longest gap that counts as a return.
        n_shards: at least 1; shards without a life are left out.

    Raises:
        ValueError: decisions without pages, as in an external log, or no life whose first session's
            return is known.
    """
    if n_shards < 1 or window_days < 1:
        raise ValueError(f"expected shards and days, got {n_shards} and {window_days}")
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(n_shards)]
        end_ms, width = 0, 0
        for batch in batches:
            if not batch.pages:
                raise ValueError(
                    "lives need a log that says which decisions were one session, got decisions "
                    "without a page; a foreign log can be evaluated decision by decision"
                )
            for page, rows in batch.pages:
                steps = _steps_of(batch, page, rows.tolist())
                data = _encoder.encode(steps)
                file = files[item_key(steps.user) % n_shards]
                file.write(len(data).to_bytes(_LENGTH, "little"))
                file.write(data)
                end_ms, width = max(end_ms, steps.at_ms), max(width, steps.n)
        made = [_lives_of(_read(file), end_ms, window_days, width) for file in files]
    lives = tuple(part for part in made if part is not None)
    if not lives:
        raise ValueError(
            f"expected users of whom it is known whether they were back within {window_days} "
            "days, got none: the log is too short"
        )
    return tuple(_mapped(part) for part in lives)


def _steps_of(batch: Batch, page: Page, rows: list[int]) -> _PageSteps:
    context, n = page.context, len(page.context)
    floors = [_floor(page, int(batch.slot[row]), batch.mask[row, :n]) for row in rows]
    return _PageSteps(
        user=context.user,
        session=context.session,
        at_ms=context.scene.at_ms,
        eps=page.eps,
        n_user=len(context.features.shared),
        shared=pack_halves(context.features.shared),
        rows=pack_halves(context.features.actions),
        n=n,
        masks=batch.mask[rows, :n].tobytes(),
        floors=np.array(floors).tobytes(),
        actions=batch.action[rows].tolist(),
        propensities=batch.propensity[rows].tolist(),
        rewards=batch.reward[rows].tolist(),
    )


def _floor(page: Page, slot: int, mask: Bools) -> Bools:
    """Return the candidates under a slot's floor, shape (n,), as in `env.interface.slot_pmf`."""
    floor = page.slots[slot].eligible & mask
    return floor if floor.any() else mask


def _read(file: BinaryIO) -> Iterator[_PageSteps]:
    file.seek(0)
    while size := file.read(_LENGTH):
        yield _decoder.decode(file.read(int.from_bytes(size, "little")))


def _lives_of(
    pages: Iterable[_PageSteps], end_ms: int, window_days: int, width: int
) -> Lives | None:
    ordered = sorted(pages, key=lambda page: (page.user, page.at_ms))
    making = _Making(end_ms, window_days, width)
    first = 0
    for place in range(1, len(ordered) + 1):
        if place == len(ordered) or ordered[place].user != ordered[first].user:
            making.add(ordered[first:place])
            first = place
    return making.lives()


class _Making:
    def __init__(self, end_ms: int, window_days: int, width: int) -> None:
        self._end_ms, self._window_days, self._width = end_ms, window_days, width
        self._pages: list[_PageSteps] = []
        self._gaps: list[float | None] = []  # by page; None: it does not end its session
        self._n_steps: list[int] = []  # by page; 0: it only follows the last known session
        self._life: list[int] = []
        self._keys: list[int] = []
        self._last_page: list[int] = []

    def add(self, pages: list[_PageSteps]) -> None:
        begins = [i for i, p in enumerate(pages) if i == 0 or p.session != pages[i - 1].session]
        gaps: list[float | None] = [None] * len(pages)
        known = 0  # pages before this index have a known return
        for start, end in zip(begins, [*begins[1:], len(pages)], strict=True):
            gap = self._gap(pages[start].at_ms, pages[end].at_ms if end < len(pages) else None)
            if gap is None:
                break
            gaps[end - 1], known = gap, end
        if not known:
            return
        follows = known < len(pages)
        for page, gap in zip(pages[:known], gaps, strict=False):
            self._append(page, gap, len(page.actions))
        if follows:
            self._append(pages[known], None, 0)
        self._keys.append(item_key(pages[0].user))
        self._last_page.append(len(self._pages) - 1 if follows else NO_PAGE)

    def lives(self) -> Lives | None:
        """Return all lives that were added, or None."""
        if not self._keys:
            return None
        pages, n_steps = self._pages, np.array(self._n_steps)
        page = np.repeat(np.arange(len(pages)), n_steps)
        at_end = np.append(np.diff(page) != 0, True)
        gaps = np.array([np.nan if gap is None else gap for gap in self._gaps])[page]
        leaves = at_end & ~np.isnan(gaps)
        counted = [p for p, n in zip(pages, self._n_steps, strict=True) if n]
        last_page = np.array(self._last_page)
        return Lives(
            shared=np.stack([np.frombuffer(p.shared, dtype="<f2") for p in pages]),
            rows=np.stack([self._padded(p) for p in pages]),
            eps=np.array([p.eps for p in pages]),
            page=page,
            mask=np.concatenate([self._bits(p, p.masks) for p in counted]),
            floor=np.concatenate([self._bits(p, p.floors) for p in counted]),
            action=np.concatenate([np.array(p.actions, dtype=np.int64) for p in counted]),
            propensity=np.concatenate([np.array(p.propensities) for p in counted]),
            reward=np.concatenate([np.array(p.rewards) for p in counted]),
            leaves=leaves,
            gap_days=np.where(leaves, gaps, 0.0),
            life=np.array(self._life)[page],
            user=np.array(self._keys, dtype=np.uint64),
            last_page=last_page,
            last_mask=np.stack([self._first_mask(place) for place in last_page.tolist()]),
        )

    def _append(self, page: _PageSteps, gap: float | None, n_steps: int) -> None:
        self._pages.append(page)
        self._gaps.append(gap)
        self._n_steps.append(n_steps)
        self._life.append(len(self._keys))

    def _gap(self, began_ms: int, next_ms: int | None) -> float | None:
        """Return days until the next session, or NEVER; None if the log ends too soon.

        It is None even if a return was logged: otherwise the last days would keep only sessions
        that were followed by one, and returns would look more frequent than they are.
        """
        began_day = began_ms // _DAY_MS
        if self._end_ms // _DAY_MS - began_day <= self._window_days:
            return None
        days = self._window_days + 1 if next_ms is None else next_ms // _DAY_MS - began_day
        return NEVER if days > self._window_days else float(days)

    def _padded(self, page: _PageSteps) -> Halves:
        rows: Halves = np.frombuffer(page.rows, dtype="<f2").reshape(page.n, -1)
        padded: Halves = np.zeros((self._width, rows.shape[1]), dtype=np.float16)
        padded[: page.n] = rows
        return padded

    def _bits(self, page: _PageSteps, data: bytes) -> Bools:
        n = len(page.actions)
        padded: Bools = np.zeros((n, self._width), dtype=np.bool_)
        padded[:, : page.n] = np.frombuffer(data, dtype=np.bool_).reshape(n, page.n)
        return padded

    def _first_mask(self, place: int) -> Bools:
        if place == NO_PAGE:
            return np.zeros(self._width, dtype=np.bool_)
        page = self._pages[place]
        first: Bools = self._bits(page, page.masks)[0]
        return first


def _mapped(lives: Lives) -> Lives:
    """Return the same lives in memory-mapped files that are already unlinked."""
    columns = {}
    for name in Lives.__slots__:
        column = getattr(lives, name)
        with tempfile.TemporaryFile() as file:
            file.write(np.ascontiguousarray(column).data)
            file.flush()
            columns[name] = np.memmap(file, dtype=column.dtype, mode="r", shape=column.shape)
    return Lives(**columns)
