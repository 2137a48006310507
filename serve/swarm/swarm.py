"""The swarm: simulated users who swipe the real feed over HTTP, as fast as it answers.

Each visit is a user of `env.world.user` who requests pages, answers cards and reports as a client
would; an attendance decides who visits when. All visits share one simulated clock, and events are
reported in its order whatever the concurrency, so equal seeds and pages give equal swipes. Design:
`docs/decisions/swarm-clock.md`.
"""

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from env.world.user import SimulatedUserState
from env.world.world import UserParameters
from serve.swarm.attendance import Arrival, Attendance
from serve.swarm.visit import SwarmVisit, Told, answered
from serve.wire.client import ClientError
from serve.wire.feed import (
    CardBody,
    Event,
    FeedbackRequest,
    FeedbackResponse,
    FeedRequest,
    FeedResponse,
)

MAX_PAUSE_S = 4.0


class NothingToShowError(ConnectionError):
    """The server returned nothing to show for too long."""


class RetryLimit:
    """Counts consecutive windows without a card, with exponential pauses between them."""

    def __init__(self, windows: int = 8, *, first_pause_s: float = 0.25) -> None:
        """Set the limit.

        Args:
            windows: limit of consecutive windows; by default after about 12 s plus the client's own
                waits.
            first_pause_s: first pause, doubled each time up to `MAX_PAUSE_S`.
        """
        self._windows = windows
        self._first_pause_s = first_pause_s
        self._n_fruitless = 0

    async def wait(self, reason: str) -> None:
        """Pause after a window without a card.

        Args:
            reason: reason for it; empty: there was a card, and the count restarts.

        Raises:
            NothingToShowError: the limit is reached.
        """
        if not reason:
            self._n_fruitless = 0
            return
        self._n_fruitless += 1
        if self._n_fruitless >= self._windows:
            raise NothingToShowError(
                f"gave up after asking {self._n_fruitless} times in a row for something to show: "
                f"{reason}"
            )
        await asyncio.sleep(min(self._first_pause_s * 2 ** (self._n_fruitless - 1), MAX_PAUSE_S))


WINDOW_MS = 1_000
SWIPE_MS = 400
REPORT_MS = 30_000
"""A longer dwell is reported in parts, so that the join does not take the user for gone."""

MAX_EVENTS = 400
Witness = Callable[[CardBody, UserParameters, SimulatedUserState], None]
"""Called with the user and their state before a card is answered."""


class FeedServer(Protocol):
    """The interface that the swarm needs of a server, as in `serve.wire.feed.client.FeedClient`."""

    async def feed(self, request: FeedRequest) -> FeedResponse:
        """Return a page."""
        ...

    async def feedback(self, request: FeedbackRequest) -> FeedbackResponse:
        """Accept events."""
        ...


@dataclass(frozen=True, slots=True)
class SwarmTally:
    """Counts of a swarm's activity.

    Attributes:
        acked: events that the server accepted.
        refused: events that the server refused.
    """

    cards: int = 0
    pages: int = 0
    visits: int = 0
    acked: int = 0
    refused: int = 0
    errors: int = 0


class Swarm:
    """Simulated users in front of one server."""

    def __init__(
        self,
        client: FeedServer,
        attendance: Attendance,
        *,
        seed: int,
        start_ms: int,
        window_ms: int = WINDOW_MS,
        page_size: int = 10,
        concurrency: int = 8,
        witness: Witness | None = None,
        patience: RetryLimit | None = None,
    ) -> None:
        """Set up the first arrivals; nothing is sent before `swipe`.

        Args:
            attendance: decides who visits when.
            seed: seed of the users' choices.
            start_ms: start of the simulated clock; it and the seed name the sessions, so a later
                swarm does not continue them.
            window_ms: time over which events are gathered before they are reported.
            patience: retry limit for a server with nothing to show.
        """
        self.clock_ms = start_ms
        self._client = client
        self._attendance = attendance
        self._seed = seed
        self._window_ms = window_ms
        self._page_size = page_size
        self._witness = witness
        self._patience = patience or RetryLimit()
        self._run = hashlib.blake2b(f"{seed}/{start_ms}".encode(), digest_size=6).hexdigest()
        self._failure = ""
        self._gate = asyncio.Semaphore(concurrency)
        self._rng = np.random.default_rng(seed)
        self._turns: list[tuple[int, int, SwarmVisit]] = []
        self._events: list[Event] = []
        self._counts = dict.fromkeys(SwarmTally.__slots__, 0)
        for arrival in attendance.begin(start_ms, self._rng):
            self._arrive(arrival)

    @property
    def tally(self) -> SwarmTally:
        """Counts so far."""
        return SwarmTally(**self._counts)

    async def swipe(
        self, n_cards: int, *, on_window: Callable[[SwarmTally], None] | None = None
    ) -> None:
        """Run until at least `n_cards` more cards were shown, or no user returns.

        Args:
            n_cards: the current window is finished in any case.

        Raises:
            NothingToShowError: the server returned nothing to show for too long.
        """
        until = self._counts["cards"] + n_cards
        while self._turns and self._counts["cards"] < until:
            await self._pass_window(on_window)

    async def live(self, *, on_window: Callable[[SwarmTally], None] | None = None) -> None:
        """Run until no user returns; endless with a `Rush`.

        Raises:
            NothingToShowError: the server returned nothing to show for too long.
        """
        while self._turns:
            await self._pass_window(on_window)

    async def leave(self) -> None:
        """Let all users finish their current card and leave, so that no session stays open."""
        while self._turns:
            at_ms, _, visit = heapq.heappop(self._turns)
            if visit.shown is not None and not self._watch_on(visit, at_ms):
                self._report(visit, [*answered(visit.answer), ("leave", None)], at_ms)
                self.clock_ms = at_ms
        await self._flush()

    async def _pass_window(self, on_window: Callable[[SwarmTally], None] | None) -> None:
        """Run one window; pause if the server had nothing to show in it."""
        reason = await self._take_window()
        if on_window:
            on_window(self.tally)
        if reason is not None:
            await self._patience.wait(reason)

    async def _take_window(self) -> str | None:
        """Take all turns of the next window, report them, then fetch the pages that are needed.

        Returns:
            Why no page had anything to show; empty: one had; None: no page was needed.
        """
        horizon_ms = self._turns[0][0] + self._window_ms
        waiting: list[SwarmVisit] = []
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

    def _finish_card(self, visit: SwarmVisit, at_ms: int) -> bool:
        """Report the card on screen; return whether it is over and the user stays."""
        if visit.shown is None:
            return True
        if self._watch_on(visit, at_ms):
            return False
        self._report(visit, answered(visit.answer), at_ms)
        if visit.user.leaves(visit.rng):
            self._report(visit, [("leave", None)], at_ms)
            self._depart(visit, at_ms)
            return False
        return True

    def _watch_on(self, visit: SwarmVisit, at_ms: int) -> bool:
        """Report the partial dwell of a card still watched; return whether it is still watched."""
        if at_ms >= visit.ends_ms:
            return False
        watched_s = min((at_ms - visit.shown_ms) / 1000, visit.answer.dwell_s)
        self._report(visit, [("dwell", round(watched_s, 3))], at_ms)
        self._push(visit, min(at_ms + REPORT_MS, visit.ends_ms))
        return True

    def _show(self, visit: SwarmVisit, at_ms: int) -> None:
        card = visit.cards.pop(0)
        if self._witness:
            self._witness(card, visit.user.user, visit.user.state)
        visit.shown = card
        self._report(visit, [("impression", None)], at_ms)
        visit.answer = visit.user.answer(card.item_id, visit.rng)
        self._counts["cards"] += 1
        visit.shown_ms = at_ms
        visit.ends_ms = at_ms + SWIPE_MS + round(1000 * visit.answer.dwell_s)
        self._push(visit, min(at_ms + REPORT_MS, visit.ends_ms))

    async def _fetch(self, visit: SwarmVisit, at_ms: int) -> None:
        request = FeedRequest(
            user_id=visit.user.user.user_id,
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
        known = visit.user.world.index
        # The world has no response model for an upload made after it: such a card is skipped.
        visit.cards = [card for card in page.items if card.item_id in known]

    def _report(self, visit: SwarmVisit, what: Sequence[Told], at_ms: int) -> None:
        self._events += visit.report(what, at_ms)

    async def _flush(self) -> None:
        """Send the pending events in the order of their times."""
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
        visit = SwarmVisit(
            number=number,
            session=f"visit-{self._run}-{number}",
            place=arrival.place,
            user=arrival.user,
            scene=arrival.scene,
            rng=np.random.default_rng([self._seed, number]),
        )
        self._push(visit, arrival.at_ms)

    def _depart(self, visit: SwarmVisit, at_ms: int) -> None:
        visit.shown = None
        arrival = self._attendance.leave(visit, at_ms, self._rng)
        if arrival is not None:
            self._arrive(arrival)

    def _push(self, visit: SwarmVisit, at_ms: int) -> None:
        heapq.heappush(self._turns, (at_ms, visit.number, visit))
