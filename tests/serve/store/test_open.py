"""A store is found by the scheme of its address, and asked for what it can do, not for its name."""

from pathlib import Path

import msgspec
import pytest
from redises import new_name, shared_url
from servers import START_MS
from typer.testing import CliRunner

from env.vocabulary import UserId
from env.world import generated
from serve.commands.main import app
from serve.config import Arm, Config, ConfigError, DataSettings, Experiment, StoreSettings
from serve.errors import JobError
from serve.jobs.backup import backup
from serve.jobs.import_data import import_items, import_users
from serve.jobs.train_bandit import train_bandit
from serve.jobs.verify import Verified, verify_log
from serve.processes.doctor import CheckResult, look_at_store
from serve.processes.replica import FeedReplica
from serve.store.open import find_kind, open_store
from serve.store.store import NotKept
from serve.wire.feed import FeedRequest

KINDS = {"toy": "toy_store:TOY"}


@pytest.fixture
def toy(tmp_path: Path) -> Config:
    return Config(
        data=DataSettings(str(tmp_path / "data")),
        store=StoreSettings(f"toy://{tmp_path}", kinds=KINDS),
        experiment=Experiment("toys", (Arm("all", "vowpal"),)),
    )


async def test_a_store_that_the_product_does_not_know_is_served_and_verified(toy: Config) -> None:
    import_items(toy, generated.catalogue(1, 60, START_MS), START_MS)
    replica = FeedReplica(toy, now_ms=lambda: START_MS)
    try:
        for n in range(5):
            page = await replica.engine.feed(FeedRequest(UserId(f"user-{n}"), size=4))
            assert len(page.items) == 4
    finally:
        replica.close()
    assert verify_log(toy) == Verified(n_pages=5, n_decisions=20)


def test_a_store_is_refused_what_it_cannot_do_and_not_for_its_name(
    toy: Config, tmp_path: Path
) -> None:
    open_store(toy, lambda: 0).close()
    with pytest.raises(JobError, match=r"is a file in the data folder: .* this is toy"):
        backup(toy, tmp_path / "backup", START_MS)
    with pytest.raises(JobError, match=r"takes an import as a whole: .* this is toy"):
        import_users(toy, generated.users(1, 3, START_MS, generated.COHORTS), START_MS)
    with pytest.raises(JobError, match="expected pages to learn from"):
        train_bandit(toy)
    assert look_at_store(toy) == CheckResult("store", "well", f"toy, in {toy.data.folder}")


@pytest.mark.parametrize("url", ["", "sqlite://", "redis", "toy"])
def test_what_a_kind_says_of_searching_is_what_its_store_does(url: str, toy: Config) -> None:
    address = {"redis": shared_url(), "toy": toy.store.url}.get(url, url)
    settings = StoreSettings(address, new_name(), kinds=KINDS)
    config = msgspec.structs.replace(toy, store=settings)
    with open_store(config, lambda: 0) as store, store.view() as view:
        if find_kind(settings).is_searchable:
            assert view.search("film", 3) == []
        else:
            with pytest.raises(NotKept, match="no index of words"):
                view.search("film", 3)


@pytest.mark.parametrize(
    ("url", "kinds", "says"),
    [
        ("mysql://root:sesame@here", {}, "expected one of sqlite://, redis://, .*, got mysql://$"),
        ("toy://a", {"toy": "no_such_module:TOY"}, "No module named 'no_such_module'"),
        ("toy://a", {"toy": "toy_store:TOYS"}, "expected a StoreKind as toy_store:TOYS"),
        ("toy://a", {"toy": "toy_store:ToyStore"}, "expected a StoreKind"),
    ],
)
def test_an_address_that_no_kind_opens_is_refused_in_words(
    url: str, kinds: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        find_kind(StoreSettings(url, kinds=kinds))


def test_the_command_line_takes_a_kind_of_one_s_own(toy: Config, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[store]\nurl = "toy://a"\nkinds = { toy = "toy_store:TOY" }\n')
    done = CliRunner().invoke(app, ["config", "check", str(file)])
    assert (done.exit_code, done.output) == (0, f"{file} is fine\n")
    file.write_text('[store]\nurl = "toy://a"\n')
    done = CliRunner().invoke(app, ["config", "check", str(file)])
    assert done.exit_code == 2
    assert "expected one of sqlite://, redis://, rediss://, got toy://" in done.output
