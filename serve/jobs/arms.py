"""Reads which arm of the experiment won from a data folder's log, and says it in words."""

from collections.abc import Callable

from rich.table import Table

from replay.evaluate.arms import ArmFigure, ArmsFold, FigureName, Readout, Verdict
from serve.config import Config
from serve.errors import JobError
from serve.monitoring.arms import arms_fold, rules_of
from serve.store.data_folder import open_data

Advance = Callable[[int], None]
"""Called with the number of log lines processed since the last call."""

LABELS: dict[FigureName, str] = {
    "reward_per_card": "reward a card",
    "watch_s_per_card": "seconds a card",
    "likes_per_card": "likes a card",
    "cards_per_user": "cards a user",
    "active_days_per_user": "active days a user",
    "returned_next_day": "back the next day",
}

SURE: tuple[Verdict, ...] = ("better", "worse")


def read_arms(config: Config, *, control: str = "", advance: Advance | None = None) -> Readout:
    """Read the log that is there now; a server may be running on it.

    Args:
        config: data folder, reward and experiment.
        control: arm that the others are compared to; empty: that of the settings.
        advance: progress callback.

    Raises:
        JobError: the settings have no two arms or no such control, there is no log, or it has no
            pages of these arms.
        LogCorruption: a line differs from the written one.
    """
    experiment = config.experiment
    names = ", ".join(experiment.shares)
    if len(experiment.arms) < 2:
        raise JobError(
            f"experiment.arms: expected settings with two arms or more, got one ({names}); name "
            "the file that the server was started with by --config"
        )
    if control and control not in experiment.shares:
        raise JobError(f"--control: expected an arm of the settings ({names}), got {control!r}")
    with open_data(config) as store:
        fold = arms_fold(config, store)
        for line in store.log.read():
            fold.fold(line.record)
            if advance is not None:
                advance(1)
    readout = fold.readout(control or experiment.control, rules_of(config))
    if not any(arm.users for arm in readout.arms):
        raise JobError(f"expected pages of the arms {names}, found {_found(fold)}")
    return readout


def _found(fold: ArmsFold) -> str:
    if not fold.others:
        return "none; let users swipe first"
    return f"only those of {', '.join(sorted(fold.others))}; is this the server's settings file?"


def verdict(readout: Readout) -> str:
    """Return the result in a sentence or two."""
    if not readout.trusted:
        return (
            "not to be trusted: the arms' users are not as their shares say; was a share changed, "
            "or do users of one arm fail to come?"
        )
    if readout.is_early:
        return _too_early(readout)
    if readout.winner == readout.control:
        return f"{readout.control} wins: every other arm earns less reward a card"
    if readout.winner:
        return f"{readout.winner} wins: {_gain(readout, readout.winner)}"
    better = [arm.arm for arm in readout.arms if arm.verdict == "better"]
    if better:
        return f"better than {readout.control}: {', '.join(better)}; which of them is not told"
    worth = f"{readout.rules.worth:.0%}"
    return f"no arm is better than {readout.control} by as much as {worth} of its reward a card"


def _gain(readout: Readout, arm: str) -> str:
    told = readout.figure("reward_per_card", arm).difference
    base = readout.figure("reward_per_card", readout.control).value
    if told is None or not base:
        return "its difference is not known"
    return (
        f"{told.value:+.3f} reward a card against {readout.control} "
        f"({told.value / abs(base):+.0%}), between {told.low:+.3f} and {told.high:+.3f}"
    )


def _too_early(readout: Readout) -> str:
    least, worth = readout.rules.least_users, readout.rules.worth
    early = [arm.arm for arm in readout.arms if arm.verdict == "too early"]
    fewest = min(readout.arms, key=lambda arm: arm.users)
    if fewest.users < least:
        reason = f"{fewest.arm} has {fewest.users:,} users, expected {least:,}"
    else:
        reason = (
            f"the interval of {', '.join(early)} holds both 0 and differences of {worth:.0%} or "
            "more"
        )
    sure = [f"{arm.arm} is {arm.verdict}; " for arm in readout.arms if arm.verdict in SURE]
    return f"{''.join(sure)}too early to say: {reason}; {_wait(readout)}"


def _wait(readout: Readout) -> str:
    if readout.cards_needed is None:
        return "how many cards it takes is not known yet"
    hours = 24.0 * readout.cards_needed / readout.cards_per_day
    time = f"{hours / 24.0:,.1f} days" if hours >= 48.0 else f"{hours:,.1f} hours"
    return (
        f"about {readout.cards_needed:,} more cards, {time} at today's rate of "
        f"{readout.cards_per_day:,.0f} a day"
    )


def notes(readout: Readout) -> list[str]:
    """Return how to read the table, and the checks, a line each."""
    rules, ratio = readout.rules, readout.sample_ratio
    method = (
        f"Intervals hold with {rules.level:.0%} at whatever time they are looked at "
        f"({readout.interval}); reward a card decides."
    )
    told = [method]
    if ratio is None:
        told.append("Sample ratio: too few users to test it.")
    else:
        sizes = ", ".join(
            f"{arm} {n:,} of {ratio.expected[arm]:,.0f} expected" for arm, n in ratio.users.items()
        )
        told.append(f"Sample ratio: {sizes}, p = {ratio.p_value:.2g}.")
    if readout.switched:
        told.append(f"{readout.switched:,} users were dealt to several arms and are left out.")
    return told


def table(readout: Readout) -> Table:
    """Return the figures as a table for a terminal."""
    drawn = Table()
    for name in ("figure", "arm"):
        drawn.add_column(name)
    for name in ("value", f"to {readout.control}", "from", "to"):
        drawn.add_column(name, justify="right")
    for label in ("users", "active", "cards"):
        for arm in readout.arms:
            n = {"users": arm.users, "active": arm.active, "cards": arm.cards}[label]
            first = arm is readout.arms[0]
            drawn.add_row(_counted(label) if first else "", arm.arm, f"{n:,}", "", "", "")
        drawn.add_section()
    for figure in readout.figures:
        first = figure.arm == readout.arms[0].arm
        drawn.add_row(LABELS[figure.figure] if first else "", figure.arm, *_cells(figure))
        if figure.arm == readout.arms[-1].arm:
            drawn.add_section()
    return drawn


def _counted(label: str) -> str:
    return {"users": "users", "active": "active users", "cards": "cards answered"}[label]


def _cells(figure: ArmFigure) -> tuple[str, str, str, str]:
    value = "" if figure.value is None else f"{figure.value:.3f}"
    told = figure.difference
    if told is None:
        return value, "", "", ""
    return value, f"{told.value:+.3f}", f"{told.low:+.3f}", f"{told.high:+.3f}"
