"""Every command that trains or evaluates runs beside a server that serves and learns."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest
from hours import HOURS_START_MS, fill, small_config, swipe_windows
from redises import new_name, shared_url
from waiting import wait_until

from policies.training.offline.settings import OfflineArgs
from replay.evaluate.gates import Gates
from serve.audit.read import fold_log, read_snapshot
from serve.config import Arm, Config, Experiment, StoreSettings
from serve.errors import JobError
from serve.jobs.arms import read_arms
from serve.jobs.evaluate import open_evaluation
from serve.jobs.export import export_dsjson, export_lines
from serve.jobs.train_bandit import train_bandit
from serve.jobs.train_offline import train_offline
from serve.jobs.verify import verify_log
from serve.learn.gate import Gate
from serve.processes.replica import FeedReplica, LearnerReplica
from serve.store.data_folder import open_data
from serve.store.generations import current_version
from serve.store.store import Activation
from serve.swarm.run import swipe_cards
from tests.serve.wire.test_client import listening

pytestmark = pytest.mark.filterwarnings("ignore")  # RLlib warns of itself
ARMS = Experiment("two", (Arm("control", "vowpal", 3.0), Arm("uniform", "uniform", 1.0)))
SMALL = OfflineArgs(
    prior_passes=1, critic_passes=1, policy_passes=1, hidden=8, embed=4, minibatch=256
)
OPEN_GATE = Gate(
    10.0,
    Gates(min_users=2, min_ess=1.0, max_weight_share=1.0, max_weight_error=10.0, min_rewards=1),
)


class Server:
    """A replica and a learner, on the clock of the world."""

    def __init__(self, config: Config) -> None:
        self.config, self.clock_ms = config, HOURS_START_MS + 86_400_000 * 30
        self.learner = LearnerReplica(config, now_ms=lambda: self.clock_ms)
        self.replica = FeedReplica(config, now_ms=lambda: self.clock_ms)

    def swipe(self, n_cards: int) -> None:
        """Let users swipe over HTTP."""
        self.clock_ms += 10_000_000

        async def swipe() -> None:
            async with listening(self.replica.app) as address:
                await swipe_cards(
                    self.config,
                    address,
                    n_cards=n_cards,
                    n_present=10,
                    seed=7,
                    now_ms=self.clock_ms,
                    advance=lambda n: None,
                )

        asyncio.run(swipe())

    def current(self) -> Activation:
        """Return the current version."""
        with open_data(self.config) as store:
            found = current_version(store)
        assert found is not None
        return found


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = str(tmp_path_factory.mktemp("beside") / "data")
    store = StoreSettings(url=shared_url(), name=new_name(), shards=3)
    config = small_config(folder, store if request.param == "redis" else None)
    config = msgspec.structs.replace(config, experiment=ARMS)
    fill(config)
    swipe_windows(config, 60)
    with ExitStack() as stack:
        server = Server(config)
        stack.enter_context(closing(server.replica))
        stack.enter_context(closing(server.learner))
        server.swipe(60)
        yield server


def evaluate(config: Config, folder: Path) -> None:
    with open_evaluation(config, ["uniform", "popularity", "vowpal", "vowpal@3"]) as job:
        reports = job.answer(force=True).reports
    assert [len(report.estimates) > 0 for report in reports] == [True] * 4
    assert all(report.health.log.arms is not None for report in reports)


def verify(config: Config, folder: Path) -> None:
    verified = verify_log(config)
    assert verified.is_clean, verified
    assert verified.n_decisions > 200


def export(config: Config, folder: Path) -> None:
    export_dsjson(config, folder / "log.dsjson")
    lines = (folder / "log.dsjson").read_text().splitlines()
    assert len(lines) > 100
    assert all("p" in json.loads(line) for line in lines)
    assert export_lines(config, folder / "log.jsonl") > 500


def arms(config: Config, folder: Path) -> None:
    readout = read_arms(config)
    assert [arm.arm for arm in readout.arms] == ["control", "uniform"]
    assert sum(arm.cards for arm in readout.arms) > 200


def audit(config: Config, folder: Path) -> None:
    snapshot, folded = read_snapshot(config), fold_log(config)
    assert 0 < snapshot.offset <= folded.offset
    assert len(folded.catalogue) == len(snapshot.catalogue) > 100


def train_a_ranker(config: Config, folder: Path) -> None:
    result = train_offline(config, SMALL, folder / "ranker")
    assert result.n_steps > 20


COMMANDS: list[Callable[[Config, Path], None]] = [
    evaluate,
    verify,
    export,
    arms,
    audit,
    train_a_ranker,
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_command_runs_while_the_server_serves_and_learns(
    server: Server, command: Callable[[Config, Path], None], tmp_path: Path
) -> None:
    command(server.config, tmp_path)
    before = server.current()
    server.swipe(30)
    wait_until(lambda: server.current().version > before.version)
    server.learner.check()
    server.replica.check()


def test_a_trained_bandit_is_served_and_learned_on(server: Server) -> None:
    before = server.current()
    trained = train_bandit(server.config, gate=OPEN_GATE, now_ms=server.clock_ms)
    version = trained.version
    assert version is not None, trained.refusals
    assert (version.version > before.version, version.epoch > before.epoch) == (True, True)
    assert version.offset >= before.offset
    wait_until(lambda: server.replica.pipeline.served.version >= version.version)
    server.swipe(40)
    wait_until(lambda: server.current().epoch > version.epoch)  # the learner has taken over again
    server.swipe(40)
    wait_until(lambda: server.current().offset > version.offset)
    server.learner.check()
    assert verify_log(server.config).is_clean


def test_other_settings_than_the_servers_are_refused(server: Server) -> None:
    learner = msgspec.structs.replace(server.config.learner, learning_rate=0.125)
    other = msgspec.structs.replace(server.config, learner=learner)
    before = server.current()
    with pytest.raises(JobError, match="restart it with these settings"):
        train_bandit(other, gate=OPEN_GATE, now_ms=server.clock_ms)
    assert server.current().epoch == before.epoch
    server.learner.check()
