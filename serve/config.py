"""The one configuration file: every setting with its default, strictly read.

`serve/nextswipe.toml` documents each setting with its meaning, unit and default, and a test holds
it equal to `Config()`. Unknown keys are refused with their path, so that a misspelt one cannot
silently do nothing. Rejected alternatives: `docs/decisions/serve-configuration.md`.
"""

import difflib
import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta

from env.fair_start.settings import AudienceArgs, FairStart, Guards, Pools
from env.feedback import SHIPPED as SHIPPED_SIGNALS
from env.feedback import Signal, Signals
from env.reward import REWARD_VERSION, REWARDED, Reward
from policies.bandit.settings import HybridBanditArgs
from policies.candidates.markets import PRESETS, MarketRules, Markets
from policies.candidates.retrieval import default_shares
from policies.custom.load import NAME
from policies.explorers import SHIPPED as SHIPPED_EXPLORER
from policies.explorers import AnyExplorer, explorer_args, has_support
from policies.ranker.blend import BlendSettings
from policies.snapshots import Generations
from serve.limits import QUEUE

SHIPPED = Path(__file__).with_name("nextswipe.toml")
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
_HOST = r"^[a-z0-9.\[\]:-]{1,255}$"
_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]{1,300}")
PolicyName = Literal["uniform", "popularity", "mixture", "vowpal", "blend"]
POLICY_NAMES: tuple[str, ...] = get_args(PolicyName)
LogLevel = Literal["debug", "info", "warning", "error"]
Section = TypeVar("Section")
FREE = frozenset({"explorer", "by_market", "neighbours", "markets", "kinds", "signals"})
"""Tables whose keys the operator chooses; their values are checked by type."""


class ConfigError(ValueError):
    """The configuration file cannot be used; the message names the file, the key and the reason."""


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The API's address, its number of replicas and its limits."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    replicas: Annotated[int, Meta(ge=1, le=64)] = 1
    edge: Literal["haproxy", "proxy"] = "haproxy"
    queue: Annotated[int, Meta(ge=1, le=100_000)] = QUEUE
    origins: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    keys: Literal["auto", "always"] = "auto"
    hosts: Annotated[tuple[Annotated[str, Meta(pattern=_HOST)], ...], Meta(max_length=100)] = ()
    drain_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 3.0

    def __post_init__(self) -> None:
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    "origins must be sites as a browser names them, like https://feed.example: "
                    f"small letters, no path; got {origin!r}"
                )


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one user may ask for and say, per replica; 0: any amount."""

    pages_per_minute: Annotated[float, Meta(ge=0.0, le=1e6)] = 6_000.0
    events_per_minute: Annotated[float, Meta(ge=0.0, le=1e6)] = 6_000.0
    events_per_card: Annotated[int, Meta(ge=0, le=1_000_000)] = 500


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log lines of the server's processes."""

    level: LogLevel = "info"
    form: Literal["text", "json"] = "text"


class DataSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The location of the data."""

    folder: Annotated[str, Meta(min_length=1)] = "data"


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The store of log and lookups; without a url it is a database in the data folder."""

    url: Annotated[str, Meta(pattern=r"^(|[a-z][a-z0-9+.-]*://.*)$")] = ""
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "nextswipe"
    shards: Annotated[int, Meta(ge=1, le=256)] = 8
    durable: bool = True
    kinds: dict[str, Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]] = {}


class ClockSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The clock in use: the server's, or the times that requests carry."""

    simulated: bool = False


class FeedSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a page."""

    candidates: Annotated[int, Meta(ge=1, le=1000)] = 100
    eps: Share = 0.02
    per_creator: Annotated[int, Meta(ge=1, le=50)] = 2
    creator_gap: Annotated[int, Meta(ge=0, le=100)] = 10
    topic_gap: Annotated[int, Meta(ge=1, le=10)] = 3
    newcomer_topic_gap: Annotated[int, Meta(ge=1, le=10)] = 8
    foreign_share: Share = 0.05
    follow: Share = 0.9
    explorer: AnyExplorer = SHIPPED_EXPLORER
    sources: dict[str, Share] = msgspec.field(default_factory=default_shares)

    def __post_init__(self) -> None:
        if not any(self.sources.values()):
            raise ValueError("sources must not all have a share of 0: none would propose an item")
        if not has_support(self.explorer):
            raise ValueError(
                "explorer must give every candidate a probability: "
                f"got {explorer_args(self.explorer)}; take one with some exploration of its own"
            )


class ContentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the analysis of an item."""

    titles: bool | Literal["auto"] = "auto"
    embed: Annotated[str, Meta(pattern=f"^(|{NAME.pattern})$")] = ""
    media_folder: str = ""


class LearnerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the online learner and of its publications."""

    bits: Annotated[int, Meta(ge=10, le=24)] = 18
    learning_rate: Annotated[float, Meta(gt=0.0, le=100.0)] = 0.25
    power_t: Share = 0.5
    clip_p: Share = 1.0
    main_sd: Annotated[float, Meta(gt=0.0, le=1e3)] = 0.15
    match_sd: Annotated[float, Meta(gt=0.0, le=1e3)] = 0.6
    main_memory: Annotated[float, Meta(ge=1.0, le=1e9)] = 100_000.0
    item_sd: Annotated[float, Meta(gt=0.0, le=10.0)] = 0.2
    item_memory: Annotated[float, Meta(ge=1.0, le=1e6)] = 500.0
    optimism: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.8
    newcomer_optimism: Annotated[float, Meta(ge=-1.0, le=100.0)] = -1.0
    newcomer_evidence: Annotated[float, Meta(gt=0.0, le=1e6)] = 20.0
    publish_every_s: Annotated[float, Meta(ge=0.1, le=3600.0)] = 1.0
    snapshots_kept: Generations | Annotated[int, Meta(ge=2, le=1000)] = Generations()

    def __post_init__(self) -> None:
        kept = self.snapshots_kept
        if isinstance(kept, Generations) and kept.last < 2:
            raise ValueError(
                f"snapshots_kept.last must be at least 2, got {kept.last}: a replica could lose "
                "the version that it is loading"
            )


class CollaborativeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of what is learned from all users: item factors, coordinates of devices, cohorts."""

    enabled: bool = True
    dims: Annotated[int, Meta(ge=1, le=256)] = 32
    every_s: Annotated[float, Meta(ge=0.1, le=86_400.0)] = 60.0
    least_answers: Annotated[int, Meta(ge=1, le=100_000_000)] = 500
    answers: Annotated[int, Meta(ge=1_000, le=100_000_000)] = 1_000_000
    per_user: Annotated[int, Meta(ge=1, le=10_000)] = 100
    items: Annotated[int, Meta(ge=1, le=1_000_000)] = 16_384
    least_match_sd: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.1


class JoinTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The grace period after which an interaction counts as over, and what comes later."""

    settle_ms: Annotated[int, Meta(ge=0, le=600_000)] = 2000
    late_days: Annotated[float, Meta(ge=0.0, le=365.0)] = 30.0
    default_reward: Annotated[float, Meta(ge=-100.0, le=100.0)] | None = None

    @property
    def corrects_ms(self) -> int:
        """For how long after its page late feedback corrects a card; 0: never."""
        return round(self.late_days * 86_400_000)


class RewardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rewards of watching, and the number of the whole set of weights."""

    valid_play: float = Reward().valid_play
    long_view: float = Reward().long_view
    version: int = REWARD_VERSION


class MixtureSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of the policy "mixture", which mixes uniform and popularity."""

    uniform_share: Share = 0.2  # of the slots; the others are drawn by popularity
    temperature: Annotated[float, Meta(gt=0.0, le=1e6)] = 0.1


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One arm of the experiment."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]  # as in the pages' log records
    policy: Annotated[str, Meta(max_length=200)]  # a `PolicyName`, or MODULE:FUNCTION of one's own
    share: Annotated[float, Meta(gt=0.0, le=1e6)] = 1.0  # of the users, relative to all arms' sum
    mixture: MixtureSettings | None = None  # for the policy "mixture" only; None: the defaults
    explorer: AnyExplorer | None = None  # of a custom scores function only; None: the feed's

    @property
    def is_custom(self) -> bool:
        """Whether the arm's policy is a custom one."""
        return ":" in self.policy

    def __post_init__(self) -> None:
        if self.policy not in POLICY_NAMES and not NAME.fullmatch(self.policy):
            raise ValueError(
                f"expected a policy that is {', '.join(POLICY_NAMES)} or MODULE:FUNCTION, "
                f"got {self.policy!r}"
            )
        if self.explorer is not None and not self.is_custom:
            raise ValueError(
                f"explorer is for a policy of one's own, got policy {self.policy}: remove it"
            )
        if self.explorer is not None and not has_support(self.explorer):
            raise ValueError(
                "explorer must give every candidate a probability: "
                f"got {explorer_args(self.explorer)}; take one with some exploration of its own"
            )
        if self.mixture is not None and self.policy != "mixture":
            raise ValueError(
                f"mixture is for policy mixture, got policy {self.policy}: remove it or name that"
            )


class Custom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Code of one's own: where it is, and what policies are held to while they serve."""

    folder: str = ""
    limit_ms: Annotated[float, Meta(gt=0.0, le=60_000.0)] = 50.0
    slow_pages: Annotated[int, Meta(ge=1, le=1000)] = 5
    pause_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 60.0


CONTROL = "control"
"""Name of the arm that the others are compared to; without it that is the first one."""


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The split of the users between policies; a single arm is no experiment."""

    name: Annotated[str, Meta(min_length=1, max_length=64)] = "first"
    arms: Annotated[tuple[Arm, ...], Meta(min_length=1, max_length=20)] = (Arm("all", "vowpal"),)
    worth: Annotated[float, Meta(gt=0.0, le=10.0)] = 0.05
    least_users: Annotated[int, Meta(ge=20, le=100_000_000)] = 50

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError(f"expected arms of different names, got {names}")

    @property
    def control(self) -> str:
        """The arm that the others are compared to: the one named "control", else the first."""
        names = [arm.name for arm in self.arms]
        return CONTROL if CONTROL in names else names[0]

    @property
    def shares(self) -> dict[str, float]:
        """Each arm's share of the users, relative to their sum."""
        return {arm.name: arm.share for arm in self.arms}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings; `Config()` equals the shipped file."""

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()
    data: DataSettings = DataSettings()
    store: StoreSettings = StoreSettings()
    clock: ClockSettings = ClockSettings()
    feed: FeedSettings = FeedSettings()
    content: ContentSettings = ContentSettings()
    learner: LearnerSettings = LearnerSettings()
    collaborative: CollaborativeSettings = CollaborativeSettings()
    join: JoinTimes = JoinTimes()
    watching: RewardSettings = msgspec.field(default=RewardSettings(), name="reward")
    signals: dict[str, Signal] = msgspec.field(default_factory=lambda: dict(SHIPPED_SIGNALS.rows))
    retention: BlendSettings = BlendSettings()
    experiment: Experiment = Experiment()
    custom: Custom = Custom()
    fair_start: FairStart = FairStart()
    pools: Pools = Pools()
    guards: Guards = Guards()
    markets: dict[str, MarketRules] = msgspec.field(default_factory=lambda: dict(PRESETS))

    def __post_init__(self) -> None:
        Markets(self.markets)  # refuses invalid countries
        _check_reward(self.reward)

    @property
    def signal_table(self) -> Signals:
        """The table of signals.

        Raises:
            SignalError: a row cannot be used.
        """
        return Signals(self.signals)

    @property
    def reward(self) -> Reward:
        """The reward, with the weights of all signals."""
        watching = self.watching
        return Reward.weighing(
            self.signal_table,
            valid_play=watching.valid_play,
            long_view=watching.long_view,
            version=watching.version,
        )

    @property
    def audiences(self) -> AudienceArgs:
        """The arguments on which the fold of audiences depends."""
        return AudienceArgs(self.fair_start, self.pools, self.guards)


def load(path: Path) -> Config:
    """Return the settings of a file; omitted settings keep their defaults.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown, or a value has a wrong type
            or is out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{path}: cannot be read: {reason}; `nextswipe config show --default` prints one"
        ) from error
    try:
        return _placed(parse(text), path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _placed(config: Config, folder: Path) -> Config:
    """Return settings that say where code of one's own and media are, whoever reads them."""
    content = config.content
    if content.embed:
        content = msgspec.structs.replace(content, media_folder=str(folder / content.media_folder))
    elif not any(arm.is_custom for arm in config.experiment.arms):
        return config
    custom = msgspec.structs.replace(config.custom, folder=str(folder / config.custom.folder))
    return msgspec.structs.replace(config, custom=custom, content=content)


def parse(text: str) -> Config:
    r"""Return the settings of a TOML text; see `load`.

    >>> parse("[server]\nport = 9000").server.port
    9000
    >>> parse("[server]\nprot = 9000")
    Traceback (most recent call last):
    serve.config.ConfigError: server.prot: unknown key; did you mean server.port?
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"no TOML: {error}") from error
    return read(raw)


def read(raw: dict[str, Any]) -> Config:
    """Return the settings of a tree as TOML or JSON gives it; see `load`."""
    _refuse_moved(raw.get("reward"))
    _refuse_unknown(raw, msgspec.to_builtins(Config()), "")
    _refuse_unknown_rules(raw.get("markets"))
    _refuse_not_finite(raw, "")
    markets, signals = _markets_with(raw.get("markets")), _signals_with(raw.get("signals"))
    raw = {**raw, "markets": markets, "signals": signals}
    if isinstance(feed := raw.get("feed"), dict) and isinstance(given := feed.get("sources"), dict):
        raw["feed"] = {**feed, "sources": {**default_shares(), **given}}
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_say(error)) from error
    _refuse_unknown_arguments(raw, "feed", config.feed.explorer)
    _refuse_unknown_arguments(raw, "retention", config.retention.explorer)
    for i, arm in enumerate(config.experiment.arms):
        if arm.explorer is not None:
            arms = {f"experiment.arms[{i}]": raw["experiment"]["arms"][i]}
            _refuse_unknown_arguments(arms, f"experiment.arms[{i}]", arm.explorer)
    return config


def _markets_with(given: object) -> object:
    """Return the shipped markets, overridden by those of a file."""
    shipped: dict[str, object] = msgspec.to_builtins(dict(PRESETS))
    return {**shipped, **given} if isinstance(given, dict) else given or shipped


def _signals_with(given: object) -> object:
    """Return the shipped signals, each with the keys of a file's row, and a file's own."""
    shipped: dict[str, object] = msgspec.to_builtins(dict(SHIPPED_SIGNALS.rows))
    if not isinstance(given, dict):
        return given or shipped
    return {**shipped, **{name: _row_with(name, given[name]) for name in given}}


def _row_with(name: str, given: object) -> dict[str, object]:
    """Return a row of a file, with the keys of the shipped one that it leaves out."""
    if not isinstance(given, dict):
        raise ConfigError(f"signals.{name}: expected a table of its keys, got {given!r}")
    _refuse_unknown(given, dict.fromkeys(Signal.__struct_fields__), f"signals.{name}.")
    shipped = SHIPPED_SIGNALS.rows.get(name, Signal())
    row: dict[str, object] = {**msgspec.to_builtins(shipped), **given}
    try:
        msgspec.convert(row, Signal)
    except msgspec.ValidationError as error:
        raise ConfigError(f"signals.{name}.{_say(error)}") from error
    return row


def _refuse_moved(reward: object) -> None:
    """Refuse weights at their old place, before they stood with their signals."""
    for key in reward if isinstance(reward, dict) else ():
        is_known = key in RewardSettings.__struct_fields__
        if not is_known and (near := difflib.get_close_matches(key, REWARDED, n=1)):
            raise ConfigError(
                f"reward.{key}: unknown key; a signal has its weight itself: "
                f"write signals.{near[0]}.weight"
            )


def _check_reward(reward: Reward) -> None:
    """Raise ValueError if a card's reward may be one that is refused as broken when learned."""
    every = [tally.name for tally in reward.tallies]
    low, high = reward.low(every), reward.high(every)
    most = HybridBanditArgs().max_reward
    if max(-low, high) > most:
        raise ValueError(
            f"signals: expected rewards of a card from -{most:g} to {most:g}, which are learned "
            f"from, got {low:g} to {high:g}; lower a weight, or the range of a value"
        )


def _refuse_unknown(raw: dict[str, object], known: dict[str, object], path: str) -> None:
    for key, value in raw.items():
        if key not in known:
            raise ConfigError(_unknown(f"{path}{key}", path, key, known))
        inside = known[key]
        if key not in FREE and isinstance(value, dict) and isinstance(inside, dict):
            _refuse_unknown(value, inside, f"{path}{key}.")


def _refuse_unknown_rules(markets: object) -> None:
    known: dict[str, object] = msgspec.to_builtins(MarketRules())
    for country, rules in markets.items() if isinstance(markets, dict) else ():
        if isinstance(rules, dict):
            _refuse_unknown(rules, known, f"markets.{country}.")


def _refuse_unknown_arguments(raw: dict[str, object], table: str, explorer: AnyExplorer) -> None:
    """Refuse unknown explorer arguments, which decoding ignores so that old logs stay readable."""
    section = raw.get(table)
    given = section.get("explorer") if isinstance(section, dict) else None
    known = explorer_args(explorer)
    for key in given if isinstance(given, dict) else ():
        if key not in known:
            raise ConfigError(_unknown(f"{table}.explorer.{key}", f"{table}.explorer.", key, known))


def _refuse_not_finite(value: object, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: expected a finite number, got {value}")
    if isinstance(value, dict):
        for key, inside in value.items():
            _refuse_not_finite(inside, f"{path}.{key}".lstrip("."))
    if isinstance(value, list):
        for i, inside in enumerate(value):
            _refuse_not_finite(inside, f"{path}[{i}]")


def _unknown(path: str, parent: str, key: str, known: dict[str, object]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {parent}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return f"{path}: unknown key; {hint}"


def _say(error: msgspec.ValidationError) -> str:
    reason, _, place = str(error).partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", reason):
        return f"{path}.{unknown[1]}: unknown key"
    return f"{path}: {reason}" if path else reason
