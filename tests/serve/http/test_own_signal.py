"""A signal of the settings goes the whole way: HTTP, log, learner, evaluation, export.

"gift" is money, taken back by "refund". What each card must earn is worked out by hand below, and
held against what the live learner, `nextswipe evaluate` and the Parquet export say.
"""

import asyncio
from itertools import count
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from redises import new_name, shared_url
from typer.testing import CliRunner
from waiting import wait_until

from env.records import FeedbackRecord, PageRecord, UserRecord
from env.users.fold import fold
from env.users.state import UserState
from env.vocabulary import DecisionId, UserKey
from replay.join.whole import join_all
from serve.commands.main import app
from serve.config import Config, load
from serve.jobs.verify import verify_log
from serve.learn.fold import LearnerState
from serve.learn.settings import learning_args, open_snapshots
from serve.processes.start import serving
from serve.store.generations import current_version
from serve.store.open import open_store
from serve.wire.client import FeedClient
from serve.wire.feed import Event, FeedbackRequest, FeedbackResponse, FeedRequest, SceneBody
from serve.wire.items import ItemBody, ItemsRequest

START_MS = 1_800_000_000_000
N_USERS, N_CARDS, N_ITEMS = 60, 5, 30
MINUTE_MS = 60_000
WEIGHT, MOST = 0.05, 10.0
SETTINGS = """
[server]
port = 0
[data]
folder = "{folder}"
[store]
url = "{url}"
name = "{name}"
[clock]
simulated = true
[content]
titles = false
[learner]
bits = 12
publish_every_s = 0.1
[experiment]
arms = [{{ name = "all", policy = "uniform" }}]
# All users are new here, so guards would leave out some of what they do.
[guards]
enabled = false
[signals.gift]
value = "money"
currency = "EUR"
most = 10.0
weight = 0.05
window_s = 3600.0
needs_impression = true
interest = 2.0
[signals.refund]
undoes = "gift"
"""


@pytest.fixture(params=["sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    url = shared_url() if request.param == "redis" else ""
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS.format(folder=tmp_path / "data", url=url, name=new_name()))
    return file


class Told:
    """What users report about their cards, and the rewards that it must come to."""

    def __init__(self) -> None:
        self.rewards: dict[DecisionId, float] = {}
        self.gifts: dict[DecisionId, float | None] = {}

    def events(self, user: int, slot: int, decision_id: str, at_ms: int) -> list[Event]:
        """Return the events of a card: seen, watched for 3 s, given gifts, and left."""

        def event(kind: str, value: float | None = None, currency: str = "") -> Event:
            return Event(f"{slot}-{next(names)}", decision_id, kind, at_ms, value, currency)

        names = count()
        events = [event("impression"), event("dwell", 3.0)]
        amounts = [(), (2.5,), (1.1, 2.2), (9.99, 9.99), (4.0,)][slot]
        currency = "EUR" if user % 2 else ""
        events += (event("gift", amount, currency) for amount in amounts)
        if slot == 4:
            events.append(event("refund"))
        events.append(event("leave"))
        key = DecisionId(decision_id.partition(".")[0])
        total = [None, 2.5, 3.3, 19.98, None][slot]
        self.gifts[key] = total
        self.rewards[key] = WEIGHT * min(total or 0.0, MOST)
        return events


async def use(address: str, told: Told) -> None:
    items = tuple(
        ItemBody(item_id=f"i{k}", creator=f"c{k}", tags=("t",), duration_s=30.0)
        for k in range(N_ITEMS)
    )
    async with FeedClient(address) as client:
        await client.put_items(ItemsRequest(items))
        for user in range(N_USERS):
            at_ms = START_MS + user * MINUTE_MS
            page = await client.feed(
                FeedRequest(f"u{user}", size=N_CARDS, scene=SceneBody(at_ms=at_ms))
            )
            for slot, card in enumerate(page.items):
                events = told.events(user, slot, card.decision_id, at_ms + 1_000 * (slot + 1))
                answer = await client.feedback(FeedbackRequest(tuple(events)))
                assert answer == FeedbackResponse(len(events), 0, ())
                again = await client.feedback(FeedbackRequest(tuple(events)))
                assert again == FeedbackResponse(0, len(events), ())
        await refuse(client, START_MS + N_USERS * MINUTE_MS)


async def refuse(client: FeedClient, at_ms: int) -> None:
    """Send what must be refused beside something good, about a page that is not evaluated."""
    request = FeedRequest("last", size=2, scene=SceneBody(at_ms=at_ms))
    seen, unseen = (card.decision_id for card in (await client.feed(request)).items)
    late_ms = at_ms + 3_600_001
    events = (
        Event("good", seen, "impression", at_ms),
        Event("spelt", seen, "gifft", at_ms),
        Event("dollar", seen, "gift", at_ms, 1.0, "USD"),
        Event("none", seen, "gift", at_ms),
        Event("much", seen, "gift", at_ms, 10.01),
        Event("worth", seen, "refund", at_ms, 1.0),
        Event("unseen", unseen, "gift", at_ms, 1.0),
        Event("late", seen, "gift", late_ms, 1.0),
        Event("forged", "x:0.y", "gift", at_ms, 1.0),
    )
    answer = await client.feedback(FeedbackRequest(events))
    reasons = {refusal.event_id: refusal.reason for refusal in answer.refused}
    assert answer.accepted == 1
    assert reasons.keys() == {event.event_id for event in events} - {"good"}
    assert reasons["spelt"].startswith("kind: unknown signal 'gifft'; did you mean gift? Known are")
    assert reasons["dollar"] == "currency: expected EUR with gift, got USD"
    assert reasons["none"] == "value: expected EUR with gift, got none"
    assert reasons["much"] == "value: expected 0 to 10 EUR with gift, got 10.01"
    assert reasons["worth"] == "value: expected none with refund, got 1"
    assert reasons["unseen"].startswith("kind: expected a card that was reported on screen before")
    assert reasons["late"] == "kind: expected gift within 3600 s of its page, got it after 3600 s"
    assert reasons["forged"] == "the decision_id was not given out here"


def is_learned(config: Config) -> bool:
    """Return whether the current version learned from all cards, after checking its rewards.

    Its statistics of the items must be those of a fold with the settings' reward.
    """
    with open_store(config, lambda: 0) as store:
        activation = current_version(store)
        lines = list(store.log.read())
    if activation is None:
        return False
    snapshot = open_snapshots(config).load(activation.version)
    state = LearnerState(learning_args(config))
    state.fold([line for line in lines if line.offset <= sum(snapshot.manifest.offsets)])
    assert state.parts(resumable=False)["items"] == snapshot.parts["items"]
    return state.learned >= N_USERS * N_CARDS


def test_a_signal_of_ones_own_is_served_learned_evaluated_and_exported(
    settings: Path, tmp_path: Path
) -> None:
    config, told = load(settings), Told()
    with serving(config, with_ray=False) as address:
        asyncio.run(use(address, told))
        wait_until(lambda: is_learned(config), pause_s=0.5)

    with open_store(config, lambda: 0) as store:
        lines = list(store.log.read())
        with store.view() as view:
            states = view.user_states(list(view.users()))
    closed = {each.decision_id: each for each in join_all(lines, config.reward)}
    assert {key: closed[key].reward for key in told.rewards} == pytest.approx(told.rewards)
    assert {key: dict(closed[key].feedback.others).get("gift") for key in told.gifts} == told.gifts
    folded: dict[UserKey, UserState | None] = {}
    for line in lines:
        if isinstance(line.record, PageRecord | FeedbackRecord | UserRecord):
            user = line.record.user
            folded[user] = fold(folded.get(user), line.record)
    assert folded == states
    assert verify_log(config).is_clean

    runner = CliRunner()
    command = ["evaluate", "uniform", "--config", str(settings), "--json"]
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.output
    (report,) = msgspec.json.decode(result.stdout)["reports"]
    mean = sum(told.rewards.values()) / len(told.rewards)
    assert report["logged"]["value"] == pytest.approx(mean)

    out = tmp_path / "table"
    command = ["log", "export", str(out), "--format", "parquet", "--config", str(settings)]
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.output
    table = pq.read_table(out / "decisions.parquet")
    exported = dict(zip(table["decision_id"].to_pylist(), table["gift"].to_pylist(), strict=True))
    assert {key: exported[key] for key in told.gifts} == told.gifts
