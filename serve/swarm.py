"""The swarm: simulated people who swipe the real feed over HTTP, as fast as it answers.

Each visit is a person of `env.viewer` who asks for pages, answers each card, reports it as a
client would, and leaves; who comes when is said by a `serve.attendance`. All visits share one
simulated clock: the turns of a short window are taken in the order of their times and reported in
one batch; at its end new pages are asked for, and their first cards shown. Where nobody is there
the clock jumps on. So the server hears everything in the order in which it happened, whatever the
concurrency. Same seed and same pages, same swipes.

Rejected: a coroutine a person (their reports would reach the server in the order of the event
loop, not of the clock), and waiting out each dwell (a thousand swipes would take hours).
"""

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from env.viewer import ViewerState
from env.world import Person
from serve.attendance import Arrival, Attendance
from serve.client import ClientError
from serve.patience import Patience
from serve.visits import Told, Visit, answered
from serve.wire import (
    CardBody,
    Event,
    FeedbackRequest,
    FeedbackResponse,
    FeedRequest,
    FeedResponse,
)

WINDOW_MS = 1_000
SWIPE_MS = 400
REPORT_MS = 30_000
"""A longer dwell is reported in between, lest the join takes the person for gone."""
MAX_EVENTS = 400

Witness = Callable[[CardBody, Person, ViewerState], None]
"""Told, before a card is answered, who saw it in which state."""


class Server(Protocol):
    """What the swarm needs of a server; `serve.client.Client` is one."""

    async def feed(self, request: FeedRequest) -> FeedResponse:
        """Return a page."""
        ...

    async def feedback(self, request: FeedbackRequest) -> FeedbackResponse:
        """Take events."""
        ...


@dataclass(frozen=True, slots=True)
class Tally:
    """What a swarm did.

    Attributes:
        acked: events that the server acknowledged as accepted.
        refused: events that the server refused.
        errors: requests that failed.
    """

    cards: int = 0
    pages: int = 0
    visits: int = 0
    acked: int = 0
    refused: int = 0
    errors: int = 0


class Swarm:
    """People in front of one server."""

    def __init__(
        self,
        client: Server,
        attendance: Attendance,
        *,
        seed: int,
        start_ms: int,
        window_ms: int = WINDOW_MS,
        page_size: int = 10,
        concurrency: int = 8,
        witness: Witness | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Gather in front of a server; nothing is sent until `swipe`.

        Args:
            client: of the server.
            attendance: who comes when.
            seed: of the people's choices.
            start_ms: where the simulated clock begins; with the seed it names the visits, so a
                swarm that comes later does not go on with their sessions.
            window_ms: how long what happens is gathered before it is told.
            page_size: cards a page.
            concurrency: requests for pages under way at a time.
            witness: see `Witness`.
            patience: with a server that gives nothing to show.
        """
        self.clock_ms = start_ms
        self._client = client
        self._attendance = attendance
        self._seed = seed
        self._window_ms = window_ms
        self._page_size = page_size
        self._witness = witness
        self._patience = patience or Patience()
        self._run = hashlib.blake2b(f"{seed}/{start_ms}".encode(), digest_size=6).hexdigest()
        self._failure = ""
        self._gate = asyncio.Semaphore(concurrency)
        self._rng = np.random.default_rng(seed)
        self._turns: list[tuple[int, int, Visit]] = []
        self._events: list[Event] = []
        self._counts = dict.fromkeys(Tally.__slots__, 0)
        for arrival in attendance.begin(start_ms, self._rng):
            self._arrive(arrival)

    @property
    def tally(self) -> Tally:
        """What was done so far."""
        return Tally(**self._counts)

    async def swipe(
        self, n_cards: int, *, on_window: Callable[[Tally], None] | None = None
    ) -> None:
        """Go on until so many more cards were shown, or nobody comes any more.

        Args:
            n_cards: at least; a window is finished.
            on_window: told of progress.

        Raises:
            NothingToShowError: the server gave nothing to show for too long.
        """
        until = self._counts["cards"] + n_cards
        while self._turns and self._counts["cards"] < until:
            await self._pass_window(on_window)

    async def live(self, *, on_window: Callable[[Tally], None] | None = None) -> None:
        """Go on until nobody comes any more; endless in front of a `Rush`.

        Args:
            on_window: told of progress.

        Raises:
            NothingToShowError: the server gave nothing to show for too long.
        """
        while self._turns:
            await self._pass_window(on_window)

    async def leave(self) -> None:
        """Let everybody finish the card they are on and leave, so that nothing stays open."""
        while self._turns:
            at_ms, _, visit = heapq.heappop(self._turns)
            if visit.shown is not None and not self._watch_on(visit, at_ms):
                self._report(visit, [*answered(visit.answer), ("leave", None)], at_ms)
                self.clock_ms = at_ms
        await self._flush()

    async def _pass_window(self, on_window: Callable[[Tally], None] | None) -> None:
        """Let a window pass; wait if the server gave nothing to show in it."""
        reason = await self._take_window()
        if on_window:
            on_window(self.tally)
        if reason is not None:
            await self._patience.wait(reason)

    async def _take_window(self) -> str | None:
        """Take all turns of the next window, report them, then fetch the pages that are needed.

        Returns:
            Why none of the pages had anything to show; empty: one had; None: none was needed.
        """
        horizon_ms = self._turns[0][0] + self._window_ms
        waiting: list[Visit] = []
        while self._turns and self._turns[0][0] < horizon_ms:
            at_ms, _, visit = heapq.heappop(self._turns)
            if not self._finish_card(visit, at_ms):
                continue
            if visit.cards:
                self._show(visit, at_ms)
            else:
                waiting.append(visit)
        self.clock_ms = horizon_ms
        await self._flush()
        self._failure = "the pages hold no item of the swarm's world; is it that of the server?"
        await asyncio.gather(*(self._fetch(visit, horizon_ms) for visit in waiting))
        found = any(visit.cards for visit in waiting)
        for visit in waiting:
            if visit.cards:
                self._show(visit, horizon_ms)
            else:
                self._depart(visit, horizon_ms)
        if not waiting:
            return None
        return "" if found else self._failure

    def _finish_card(self, visit: Visit, at_ms: int) -> bool:
        """Report the card on screen; return whether it is over and the person stays."""
        if visit.shown is None:
            return True
        if self._watch_on(visit, at_ms):
            return False
        self._report(visit, answered(visit.answer), at_ms)
        if visit.viewer.leaves(visit.rng):
            self._report(visit, [("leave", None)], at_ms)
            self._depart(visit, at_ms)
            return False
        return True

    def _watch_on(self, visit: Visit, at_ms: int) -> bool:
        """Report the dwell so far of a card that lasts on; return whether it does."""
        if at_ms >= visit.ends_ms:
            return False
        watched_s = min((at_ms - visit.shown_ms) / 1000, visit.answer.dwell_s)
        self._report(visit, [("dwell", round(watched_s, 3))], at_ms)
        self._push(visit, min(at_ms + REPORT_MS, visit.ends_ms))
        return True

    def _show(self, visit: Visit, at_ms: int) -> None:
        card = visit.cards.pop(0)
        if self._witness:
            self._witness(card, visit.viewer.person, visit.viewer.state)
        visit.shown = card
        self._report(visit, [("impression", None)], at_ms)
        visit.answer = visit.viewer.answer(card.item_id, visit.rng)
        self._counts["cards"] += 1
        visit.shown_ms = at_ms
        visit.ends_ms = at_ms + SWIPE_MS + round(1000 * visit.answer.dwell_s)
        self._push(visit, min(at_ms + REPORT_MS, visit.ends_ms))

    async def _fetch(self, visit: Visit, at_ms: int) -> None:
        request = FeedRequest(
            user_id=visit.viewer.person.user_id,
            session_id=visit.session,
            size=self._page_size,
            scene=msgspec.structs.replace(visit.scene, at_ms=at_ms),
        )
        async with self._gate:
            try:
                page = await self._client.feed(request)
            except ClientError as error:
                self._counts["errors"] += 1
                self._failure = str(error)
                return
        self._counts["pages"] += 1
        known = visit.viewer.world.index
        # Of an upload since the world was made nobody knows how it is liked: it is passed over.
        visit.cards = [card for card in page.items if card.item_id in known]

    def _report(self, visit: Visit, what: Sequence[Told], at_ms: int) -> None:
        self._events += visit.report(what, at_ms)

    async def _flush(self) -> None:
        """Send what is to be reported, in the order of its times."""
        events = sorted(self._events, key=lambda event: event.at_ms)
        self._events.clear()
        for start in range(0, len(events), MAX_EVENTS):
            batch = tuple(events[start : start + MAX_EVENTS])
            try:
                response = await self._client.feedback(FeedbackRequest(batch))
            except ClientError:
                self._counts["errors"] += 1
                continue
            self._counts["acked"] += response.accepted
            self._counts["refused"] += len(response.refused)

    def _arrive(self, arrival: Arrival) -> None:
        number = self._counts["visits"]
        self._counts["visits"] += 1
        visit = Visit(
            number=number,
            session=f"visit-{self._run}-{number}",
            place=arrival.place,
            viewer=arrival.viewer,
            scene=arrival.scene,
            rng=np.random.default_rng([self._seed, number]),
        )
        self._push(visit, arrival.at_ms)

    def _depart(self, visit: Visit, at_ms: int) -> None:
        visit.shown = None
        arrival = self._attendance.leave(visit, at_ms, self._rng)
        if arrival is not None:
            self._arrive(arrival)

    def _push(self, visit: Visit, at_ms: int) -> None:
        heapq.heappush(self._turns, (at_ms, visit.number, visit))
