"""Pictures that compare a world's summary statistics with their targets.

matplotlib is in the extra `world` and is imported when a picture is drawn. Pictures are drawn
without a display, and the same statistics give the same picture.
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from env.vocabulary import Floats
from env.world.log_statistics import QUANTILES, SIGNALS, LogStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes


TARGET, FOUND = "#1f1f1f", "#e8505b"

NAMES = {
    "valid_play": "watched beyond 7 s",
    "long_view": "watched beyond 18 s",
    "like": "like",
    "comment": "comment",
    "share": "share",
    "follow": "follow",
    "not_interested": "not interested",
}

LONGEST_SESSION = 120


def draw_moments(
    file: Path,
    found: LogStatistics,
    target: LogStatistics,
    survival: Floats,
    *,
    title: str,
    source: str,
) -> None:
    """Write the four-panel picture of a check, in the format of the file's suffix.

    Args:
        file: .png, .svg or .pdf.
        found: of the simulated log.
        target: expected statistics.
        survival: simulated P(length > 0), P(length > 1), .. of sessions, shape (n,).
        title: names the world.
        source: of the target's figures.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 7.6), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _draw_rates(axes[0, 0], found, target)
    _draw_watch(axes[0, 1], found, target)
    _draw_gaps(axes[1, 0], found, target)
    _draw_sessions(axes[1, 1], found, target, survival)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)
    figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left")
    wrapped = "\n".join(textwrap.wrap(source, 170))
    figure.supxlabel(wrapped, fontsize=8, color="#666666", x=0.01, ha="left")
    figure.savefig(file)


def _draw_rates(axis: "Axes", found: LogStatistics, target: LogStatistics) -> None:
    place = np.arange(len(SIGNALS))[::-1]
    wanted = [target.rates[name] for name in SIGNALS]
    seen = [found.rates[name] for name in SIGNALS]
    axis.scatter(
        wanted, place, s=150, facecolors="none", edgecolors=TARGET, linewidths=1.8, label="target"
    )
    axis.scatter(seen, place, s=38, color=FOUND, label="simulated")
    for y, name in zip(place, SIGNALS, strict=True):
        axis.annotate(
            _percent(target.rates[name]), (target.rates[name], y), xytext=(11, -3),
            textcoords="offset points", fontsize=9, color=TARGET,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlim(min(wanted) / 2.0, 2.0)
    axis.set_yticks(place, [NAMES[name] for name in SIGNALS])
    axis.set_xticks([1e-3, 1e-2, 1e-1, 1.0], ["0.1%", "1%", "10%", "100%"])
    axis.set_title("How often users do what, of all cards", loc="left", fontsize=11)
    axis.legend(loc="lower right", frameon=False)


def _draw_watch(axis: "Axes", found: LogStatistics, target: LogStatistics) -> None:
    for moments, color, width in ((target, TARGET, 3.2), (found, FOUND, 1.6)):
        axis.plot(np.exp(moments.log_watch), 100.0 * (1.0 - QUANTILES), color=color, lw=width)
    axis.set_xscale("log")
    seconds = [1, 3, 7, 18, 60, 180]
    axis.set_xticks(seconds, [f"{s} s" if s < 60 else f"{s // 60} min" for s in seconds])
    axis.minorticks_off()
    axis.set_ylabel("of the cards that were played, %")
    axis.set_title("How many are still watching after a time", loc="left", fontsize=11)
    axis.annotate(
        f"mean {target.watch_mean_s:.1f} s, simulated {found.watch_mean_s:.1f} s\n"
        f"not played at all {target.watch_zero:.1%}, simulated {found.watch_zero:.1%}",
        (0.98, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=9,
    )  # fmt: skip


def _draw_gaps(axis: "Axes", found: LogStatistics, target: LogStatistics) -> None:
    day = np.arange(1, len(target.gaps) + 1)
    wanted = np.array(target.gaps) / sum(target.gaps)
    seen = np.array(found.gaps[: len(day)]) / max(sum(found.gaps), 1)
    axis.bar(day, wanted, width=0.75, color="#d9d9d9", edgecolor=TARGET, linewidth=1.0)
    axis.plot(day, np.where(seen > 0.0, seen, np.nan), "o-", color=FOUND, lw=1.4, ms=4.5)
    axis.set_yscale("log")
    axis.set_ylim(max(wanted[wanted > 0.0].min() / 3.0, 1e-6), 1.3)
    axis.set_yticks([1e-4, 1e-3, 1e-2, 1e-1, 1.0], ["0.01%", "0.1%", "1%", "10%", "100%"])
    axis.set_xticks(day[::3])
    axis.set_xlabel("days until the next visit")
    axis.set_title("When users come back", loc="left", fontsize=11)
    axis.annotate(
        f"the next day {wanted[0]:.1%}, simulated {seen[0]:.1%}",
        (0.98, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=9,
    )  # fmt: skip


def _draw_sessions(
    axis: "Axes", found: LogStatistics, target: LogStatistics, survival: Floats
) -> None:
    """Draw the simulated sessions, and the target's slope from their median on."""
    seen = survival[: LONGEST_SESSION + 1]
    median = int(np.count_nonzero(seen >= 0.5))
    beyond = np.arange(median, LONGEST_SESSION + 1)
    assumed = " (assumed)" if "session_cards" in target.assumed else ""
    axis.plot(
        beyond, 100.0 * seen[min(median, len(seen) - 1)]
        * np.exp(target.session_tail * (beyond - median)),
        color=TARGET, lw=3.2, ls="--" if assumed else "-",
        label=f"target from the median on{assumed}",
    )  # fmt: skip
    axis.plot(np.arange(len(seen)), 100.0 * seen, color=FOUND, lw=1.6, label="simulated")
    axis.set_yscale("log")
    axis.set_ylim(0.5, 130.0)
    axis.set_yticks([1.0, 10.0, 100.0], ["1%", "10%", "100%"])
    axis.set_xlim(0.0, LONGEST_SESSION)
    axis.set_xlabel("cards of a session")
    axis.set_title("How many sessions go on beyond a number of cards", loc="left", fontsize=11)
    axis.annotate(
        f"mean {target.session_cards:.1f}{assumed}, simulated {found.session_cards:.1f}",
        (0.98, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=9,
    )  # fmt: skip
    axis.legend(loc="lower left", frameon=False)


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g}%" if share < 0.1 else f"{100.0 * share:.0f}%"
