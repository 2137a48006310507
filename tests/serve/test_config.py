import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from env.feedback import KINDS, ROWS, Signal
from env.reward import Reward
from env.vocabulary import UserKey
from policies.bandit.settings import HybridBanditArgs
from policies.baselines import mixture_policy
from policies.candidates.markets import PRESETS, MarketRules
from policies.explorers import Softmax
from serve.config import (
    FREE,
    SHIPPED,
    Arm,
    Config,
    ConfigError,
    Experiment,
    MixtureSettings,
    load,
    parse,
)
from serve.feed.pipeline import assign, baseline

SHIPPED_TEXT = SHIPPED.read_text()


def test_the_shipped_file_says_what_the_defaults_are() -> None:
    assert load(SHIPPED) == Config()


def test_an_empty_file_means_the_defaults() -> None:
    assert parse("") == Config()


def test_every_setting_stands_in_the_shipped_file_under_a_comment() -> None:
    lines = SHIPPED.read_text().splitlines()
    for name, section in msgspec.to_builtins(Config()).items():
        start = lines.index(f"[{name}]")
        if name in FREE:
            assert lines[start - 1].startswith("# "), f"{name} has no comment"
            continue
        for key in section:
            at = next(
                i
                for i, line in enumerate(lines)
                if i > start and line.removeprefix("# ").startswith(f"{key} =")
            )
            assert lines[at - 1].startswith("# "), f"{name}.{key} has no comment"


def test_the_learner_is_configured_as_its_policy_was_measured() -> None:
    learner, args = Config().learner, HybridBanditArgs()
    assert (learner.bits, learner.learning_rate) == (args.bits, args.learning_rate)
    configured = msgspec.structs.asdict(learner)
    known = msgspec.structs.asdict(args)
    assert {n: v for n, v in configured.items() if n in known} == {
        n: v for n, v in known.items() if n in configured
    }
    assert Config().feed.explorer == args.explorer


def test_a_market_of_the_file_takes_the_place_of_the_shipped_one_and_leaves_the_others() -> None:
    config = parse('[markets.GB]\nlanguages = []\n[markets.BR]\nlanguages = ["pt"]')
    assert config.markets["GB"] == MarketRules()
    assert config.markets["BR"] == MarketRules(("pt",))
    assert config.markets["SG"] == PRESETS["SG"]


def test_an_explorer_is_read_with_its_arguments() -> None:
    config = parse('[feed]\nexplorer = { kind = "softmax", temperature = 0.5 }')
    assert config.feed.explorer == Softmax(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "server.prot: unknown key; did you mean server.port?"),
        ("sever = 1", "sever: unknown key; did you mean server?"),
        ("[x]", "x: unknown key; known are"),
        ('[server]\nport = "a"', "server.port: Expected `int`, got `str`"),
        ("[server]\nport = 70000", "server.port: Expected `int` <= 65535"),
        ("server = 3", "server: Expected `object`, got `int`"),
        ('[server]\norigins = ["*"]', "server: origins must be sites as a browser names them"),
        ('[server]\norigins = ["https://a.b/"]', "no path; got 'https://a.b/'"),
        ("[feed]\neps = 1.5", "feed.eps: Expected `float` <= 1.0"),
        ('[feed]\nexplorer = { kind = "softmax", temp = 1.0 }', "feed.explorer.temp: unknown key"),
        ('[feed]\nexplorer = { kind = "softmx" }', "feed.explorer.kind: Invalid value 'softmx'"),
        (
            '[feed]\nexplorer = { kind = "softmax", temperature = -1.0 }',
            "feed.explorer: temperature must be above 0",
        ),
        (
            '[feed]\nexplorer = { kind = "greedy" }',
            "feed: explorer must give every candidate a probability: got {'kind': 'greedy'",
        ),
        (
            '[feed]\nexplorer = { kind = "epsilon", epsilon = 0.0 }',
            "feed: explorer must give every candidate a probability: got {'kind': 'epsilon'",
        ),
        (
            '[retention]\nexplorer = { kind = "greedy" }',
            "retention: explorer must give every candidate a probability: got {'kind': 'greedy'",
        ),
        (
            '[retention]\nexplorer = { kind = "softmax", temp = 1.0 }',
            "retention.explorer.temp: unknown key",
        ),
        ("[retention]\nweight = 1.5", "retention: weight must be in [0, 1]"),
        (
            "[retention]\nitem_half = 0.0",
            "retention: weight must be in [0, 1], item_half",
        ),
        ("[retention]\nwieght = 1.0", "retention.wieght: unknown key; did you mean"),
        ("[reward]\nversion = inf", "reward.version: expected a finite number"),
        ("[signals.like]\nweight = inf", "signals.like.weight: expected a finite number"),
        ("[learner]\nlearning_rate = nan", "learner.learning_rate: expected a finite number"),
        ("[fair_start]\nbudget = 2.0", "fair_start: budget must be in [0, 1], got 2.0"),
        ("[pools]\ncaps = [300, 200, 1]", "pools: caps must be three rising numbers above 0"),
        ("[guards]\nslak = 2.0", "guards.slak: unknown key; did you mean guards.slack?"),
        (
            "[markets.GB]\ncarts = true",
            "markets.GB.carts: unknown key; did you mean",
        ),
        ("[markets.Gb]\ncart = true", "markets must be upper-case ISO 3166 codes like 'GB'"),
        (
            '[experiment]\narms = [{ name = "a", policy = "uniform", shar = 1.0 }]',
            "experiment.arms[0].shar: unknown key",
        ),
        (
            '[experiment]\narms = [{ name = "a", policy = "best" }]',
            "vowpal, blend or MODULE:FUNCTION, got 'best'",
        ),
        (
            '[experiment]\narms = [{name="a",policy="mixture",mixture={uniform_share=1.5}}]',
            "experiment.arms[0].mixture.uniform_share: Expected `float` <= 1.0",
        ),
        (
            '[experiment]\narms = [{name="a",policy="mixture",mixture={temperature=0.0}}]',
            "experiment.arms[0].mixture.temperature: Expected `float` > 0.0",
        ),
        (
            '[experiment]\narms = [{name="a",policy="mixture",mixture={temperature=inf}}]',
            "experiment.arms[0].mixture.temperature: expected a finite number",
        ),
        (
            '[experiment]\narms = [{name="a",policy="mixture",mixture={share=0.5}}]',
            "experiment.arms[0].mixture.share: unknown key",
        ),
        (
            '[experiment]\narms = [{name="a",policy="uniform",mixture={}}]',
            "experiment.arms[0]: mixture is for policy mixture, got policy uniform",
        ),
        (
            '[experiment]\narms = [{name="a",policy="uniform"}, {name="a",policy="vowpal"}]',
            "experiment: expected arms of different names",
        ),
        ("[server\n", "no TOML"),
    ],
)
def test_a_bad_setting_is_refused_with_its_path(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert message in str(refused.value)


MONEY = 'value = "money"\ncurrency = "EUR"\nmost = 9.0\n'
NUMBER = 'value = "number"\nunit = "pages"\nmost = 9.0\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[signals."Gift"]', "signals.Gift: expected a name of at most 32 small letters"),
        ('[signals."9lives"]', "signals.9lives: expected a name of at most 32 small letters"),
        ("[signals.reward]", "signals.reward: this name is that of a column of exports"),
        ("[signals]\ngift = 3", "signals.gift: expected a table of its keys, got 3"),
        ("[signals.gift]\nwieght = 1", "signals.gift.wieght: unknown key; did you mean"),
        ('[signals.gift]\nvalue = "coins"', "signals.gift.value: "),
        ('[signals.gift]\nvalue = "money"\nmost = 9', "signals.gift.currency: expected the money"),
        (f"[signals.gift]\n{MONEY}".replace("EUR", "EURO"), "signals.gift.currency: expected the"),
        (f"[signals.gift]\n{MONEY}".replace("EUR", "ABC"), "signals.gift.currency: expected the"),
        ('[signals.gift]\ncurrency = "EUR"', "signals.gift.currency: expected none, unless"),
        ('[signals.gift]\nvalue = "number"\nmost = 9', "signals.gift.unit: expected the number"),
        (f'[signals.gift]\n{MONEY}unit = "cents"', "signals.gift.unit: expected none, unless"),
        ("[signals.gift]\nmost = 9", "signals.gift.most: expected none, unless"),
        ("[signals.gift]\nleast = -9", "signals.gift.least: expected none, unless"),
        (f"[signals.gift]\n{MONEY}least = 9.0", "signals.gift.most: expected above least, 9"),
        (f"[signals.gift]\n{MONEY}".replace("9.0", "1e10"), "signals.gift.most: expected above"),
        ('[signals.gift]\nmerge = "sum"', "signals.gift.merge: expected none, unless"),
        (f'[signals.gift]\n{MONEY}merge = "mean"', "signals.gift.merge: "),
        ("[signals.gift]\nweight = 1e4", "signals.gift.weight: expected -1000 to 1000"),
        ("[signals.gift]\nweight = nan", "signals.gift.weight: expected a finite number"),
        ('[signals.gift]\nweight = "much"', "signals.gift.weight: Expected `float`"),
        ("[signals.gift]\nweight = 200", "signals: expected rewards of a card from -100 to 100"),
        (f"[signals.gift]\n{NUMBER}weight = 20", "signals: expected rewards of a card from -100"),
        ("[signals.gift]\ninterest = 11", "signals.gift.interest: expected -10 to 10"),
        ("[signals.gift]\nwindow_s = 0.5", "signals.gift.window_s: expected 1 to 2592000"),
        ("[signals.gift]\nwindow_s = 2592001", "signals.gift.window_s: expected 1 to 2592000"),
        ('[signals.gift]\nundoes = "gfit"', "signals.gift.undoes: expected another signal"),
        ('[signals.gift]\nundoes = "gift"', "signals.gift.undoes: expected another signal"),
        ('[signals.gift]\nundoes = "unlike"', "signals.gift.undoes: expected another signal"),
        ('[signals.gift]\nundoes = "dwell"', "signals.gift.undoes: expected another signal"),
        (f'[signals.gift]\n{MONEY}undoes = "like"', "signals.gift.value: expected none: it takes"),
        ('[signals.gift]\nundoes = "like"\nweight = 1', "signals.gift.weight: expected none: it"),
        ('[signals.gift]\nundoes = "like"\ninterest = 1', "signals.gift.interest: expected none"),
        ("[signals.gift]\nneeds_impression = 1", "signals.gift.needs_impression: Expected `bool`"),
        ("[signals.impression]\nneeds_impression = true", "signals.impression.needs_impression: "),
        ("[signals.dwell]\nweight = 1", "signals.dwell.weight: expected 0: watching counts by"),
        ("[signals.dwell]\nmost = 60", "signals.dwell.most: expected 86400.0, as logs since"),
        (f"[signals.like]\n{MONEY}", "signals.like.value: expected 'none', as logs since"),
        ("[reward]\nlike = 1.0", "reward.like: unknown key; a signal has its weight itself: write"),
        ("[reward]\nshares = 1.0", "write signals.share.weight"),
    ],
)
def test_a_bad_signal_is_refused_with_its_key_and_the_reason(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert message in str(refused.value)


def test_no_more_signals_than_a_hundred_of_ones_own() -> None:
    many = "".join(f"[signals.s{k}]\n" for k in range(101))
    with pytest.raises(ConfigError, match="at most 100 signals of your own, got 101"):
        parse(many)


def test_a_shipped_signal_keeps_the_keys_that_a_file_leaves_out() -> None:
    config = parse('[signals.purchase]\ncurrency = "JPY"\n[signals.like]\nweight = 2.0')
    purchase = KINDS["purchase"].signal
    assert config.signals["purchase"] == msgspec.structs.replace(purchase, currency="JPY")
    assert config.reward == msgspec.structs.replace(Reward(), like=2.0)
    assert Config().reward == Reward()


def test_the_shipped_file_has_the_shipped_signals_row_by_row() -> None:
    rows = tomllib.loads(SHIPPED_TEXT)["signals"]
    assert {name: Signal(**row) for name, row in rows.items()} == {
        row.kind: row.signal for row in ROWS
    }


def test_a_bad_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(ConfigError, match=r"mine\.toml: cannot be read"):
        load(path)
    path.write_text("[server]\nport = true")
    with pytest.raises(ConfigError, match=r"mine\.toml: server\.port"):
        load(path)


def test_users_are_split_by_the_arms_shares() -> None:
    experiment = Experiment("split", (Arm("a", "uniform", 1.0), Arm("b", "vowpal", 3.0)))
    n = 20_000
    in_b = sum(assign(experiment, UserKey(f"u{i}")).name == "b" for i in range(n))
    assert abs(in_b / n - 0.75) < 4 * (0.75 * 0.25 / n) ** 0.5


def test_experiments_of_different_names_split_independently() -> None:
    arms = (Arm("a", "uniform"), Arm("b", "vowpal"))
    first, second = Experiment("first", arms), Experiment("second", arms)
    users = [UserKey(f"u{i}") for i in range(20_000)]
    same = sum(assign(first, user) == assign(second, user) for user in users)
    assert abs(same / len(users) - 0.5) < 4 * (0.25 / len(users)) ** 0.5


def test_a_mixture_is_read_with_its_arguments_and_is_the_one_of_the_file_by_default() -> None:
    texts = ['policy="mixture"', *re.findall(r'policy = "mixture", mixture = {.*?}', SHIPPED_TEXT)]
    assert len(texts) == 2
    for text in texts:
        (arm,) = parse(f'[experiment]\narms = [{{ name = "base", {text} }}]').experiment.arms
        policy = baseline(arm)
        assert policy is not None
        assert policy.name == "mixture@0"
        assert policy.explorer == mixture_policy(0.2, 0.1).explorer
    other = Arm("base", "mixture", mixture=MixtureSettings(0.7, 0.5))
    policy = baseline(other)
    assert policy is not None
    assert policy.explorer == mixture_policy(0.7, 0.5).explorer


def test_a_user_stays_in_their_arm_from_release_to_release() -> None:
    experiment = Experiment("first", (Arm("a", "uniform"), Arm("b", "vowpal")))
    names = "".join(assign(experiment, UserKey(f"u{i}")).name for i in range(8))
    assert names == "bbabaaab"


def test_a_share_of_an_unknown_source_is_refused_and_one_left_out_keeps_its_default() -> None:
    with pytest.raises(ConfigError, match=r"feed.sources.freshh: .*feed.sources.fresh\?"):
        parse("[feed.sources]\nfreshh = 0.2")
    sources = parse("[feed.sources]\nfresh = 0.5").feed.sources
    assert sources == Config().feed.sources | {"fresh": 0.5}
    none = ", ".join(f"{name} = 0" for name in sources)
    with pytest.raises(ConfigError, match="must not all have a share of 0"):
        parse(f"[feed]\nsources = {{ {none} }}")


@pytest.mark.parametrize("value", ["true", "false", '"auto"'])
def test_titles_are_on_off_or_auto(value: str) -> None:
    titles = parse(f"[content]\ntitles = {value}").content.titles
    assert titles == {"true": True, "false": False, '"auto"': "auto"}[value]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('titles = "maybe"', "content.titles"),
        ("titles = 1", "content.titles"),
        ('embed = "hooks"', "content.embed"),
        ('embed = "hooks:embed()"', "content.embed"),
    ],
)
def test_other_settings_of_content_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(f"[content]\n{text}")


def test_a_hook_and_its_media_are_looked_for_beside_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[content]\nembed = "hooks:embed"\nmedia_folder = "media"\n')
    config = load(file)
    assert config.custom.folder == str(tmp_path)
    assert config.content.media_folder == str(tmp_path / "media")
