"""Records one simulated user's visits, so that each moment can be rendered.

The simulation only holds the current state; a picture also shows the visit's cards so far and the
days of all visits. `Film` plays the steps of a simulation of one user and keeps these.
"""

from env.feedback import DRAWN_REACTIONS
from env.render.still import Moment, StillCard, StillResponse, Swipe
from env.vocabulary import Floats, Ints
from env.world.answers import UNCAPPED_S
from env.world.population import UserSource
from env.world.simulation import EVENTS, Simulation, StepResult
from env.world.supply import Stock
from env.world.world import BAIT, LANGUAGE, TOPIC, terms_of_one

_WATCH = EVENTS.index("watch_s")
_LIKES = 3


class Film:
    """The cards that were shown to the single user of a simulation."""

    def __init__(self, swiping: Simulation, cast: UserSource) -> None:
        """Follow the user of this simulation.

        Raises:
            ValueError: it has more than one user.
        """
        if swiping.crowd.n != 1:
            raise ValueError(f"expected a feed of one user, got {swiping.crowd.n}")
        self._swiping, self._cast = swiping, cast
        self._swipes: list[Swipe] = []
        self._visits: list[int] = []
        self._turn: StepResult | None = None
        self._when = (0, 0.0, 1)

    def begin(self) -> None:
        """Record the start of a life, before its first card."""
        self._turn = None
        self._swipes.clear()
        self._visits = [self._day()]
        self._note_time()

    def play(self, actions: Ints) -> StepResult:
        """Play a step, see `Simulation.play`; shape (1, m)."""
        swiping = self._swiping
        if self._turn is not None and self._turn.session_end[0]:
            self._swipes.clear()
            self._visits.append(self._day())
        self._note_time()
        rows = swiping.candidates.rows[0, actions[0]]
        cards = [_card(swiping.stock, int(row), self._cast.languages) for row in rows]
        turn = swiping.play(actions)
        seen = range(int(turn.n_cards[0]))
        self._swipes += [Swipe(cards[j], _reply(turn.events[j, :, 0])) for j in seen]
        self._turn = turn
        return turn

    def still(self) -> Moment:
        """Return this moment; after a visit's last card the state is that of the next visit."""
        swiping, cast, turn = self._swiping, self._cast, self._turn
        crowd = swiping.crowd
        users = crowd.users
        language = int(users.language[0])
        day, hour, session = self._when
        return Moment(
            seed=int(swiping.seeds[0]),
            cohort=cast.cohorts[int(users.cohort[0])],
            country=cast.countries[int(users.country[0])],
            language=cast.languages[language] if language >= 0 else "",
            device=cast.devices[int(users.device[0])],
            tenure_days=int(users.tenure_days[0]),
            day=day,
            horizon_days=swiping.preset.horizon_days,
            hour=hour,
            session=session,
            swipes=tuple(self._swipes),
            satisfaction=float(crowd.satisfaction[0]),
            load=float(crowd.load[0]),
            satiation=tuple(crowd.satiation[0].tolist()),
            gap_days=0 if turn is None else int(turn.gap_days[0]),
            has_churned=turn is not None and bool(turn.terminated[0]),
            visits=tuple(self._visits),
        )

    def _day(self) -> int:
        return int(self._swiping.crowd.day[0])

    def _note_time(self) -> None:
        crowd = self._swiping.crowd
        self._when = (self._day(), float(crowd.hour[0]), int(crowd.sessions[0]) + 1)


def _card(stock: Stock, row: int, languages: tuple[str, ...]) -> StillCard:
    column = stock.columns[:, row]
    length_s = float(terms_of_one(column).cap_s)
    language, exposures = int(column[LANGUAGE]), float(stock.counts[0, row])
    return StillCard(
        serial=int(stock.serial[row]),
        topic=int(column[TOPIC]),
        duration_s=0.0 if length_s >= UNCAPPED_S else length_s,
        creator=int(stock.creator[row]),
        language=languages[language] if language >= 0 else "",
        exposures=int(exposures),
        like_share=float(stock.counts[_LIKES, row]) / exposures if exposures else None,
        bait=float(column[BAIT]),
    )


def _reply(events: Floats) -> StillResponse:
    said = {name: bool(events[EVENTS.index(name)] > 0.0) for name in DRAWN_REACTIONS}
    return StillResponse(watch_s=float(events[_WATCH]), **said)
