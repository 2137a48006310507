"""The picture of one simulated user's weeks under two policies, side by side.

Each half has three strips over the same days: the visits, as bars of watch time coloured by topic;
the hidden satisfaction; and the bait shown. Averages of many users stand above each half, since one
user is no evidence. matplotlib is in the extra `world` and is imported when a picture is drawn.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from env.render.palette import BAD, FAINT, GOOD, GREY, INK, TOPIC_NAMES, Colour
from env.render.still import clock, count
from env.report.story import Averages, Story

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SAYS = {
    "uniform": "Any card will do",
    "myopic": "Most likely to be watched now",
    "mixed": "The same, but spares bait and repeats",
}

TOPIC_INKS = (
    *("#3b6fb6", "#e08a2e", "#4c9f70", "#c8518a"),
    *("#7a5fb5", "#c9b13b", "#58b4c4", "#a3653b"),
    *("#e58f8a", "#8db84f", "#35507d", "#b58ad0"),
)

_OTHER = "#b9bcc3"
_BAR_DAYS = 0.62


def draw_story(
    file: Path, stories: Sequence[Story], averages: Sequence[Averages], *, title: str, source: str
) -> None:
    """Write the picture, in the format of the file's suffix.

    Args:
        file: .png, .svg or .pdf.
        stories: of the same user, one per policy.
        averages: of the same policies.
        title: stands above the picture.
        source: names the world and the user.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.4, 7.6), dpi=105, facecolor="white")
    FigureCanvasAgg(figure)
    inks = _topic_inks(stories)
    grid = figure.add_gridspec(
        3, len(stories), height_ratios=(3.0, 1.3, 0.8), hspace=0.34, wspace=0.09,
        left=0.052, right=0.985, top=0.745, bottom=0.13,
    )  # fmt: skip
    most_s = max((visit.watched_s for story in stories for visit in story.visits), default=0.0)
    for k, (story, average) in enumerate(zip(stories, averages, strict=True)):
        visits, satisfaction, bait = (figure.add_subplot(grid[row, k]) for row in range(3))
        _draw_visits(visits, story, inks, max(most_s, 60.0) / 60.0)
        _draw_satisfaction(satisfaction, story)
        _draw_bait(bait, story)
        _write_head(visits, story, average)
        for axis in (visits, satisfaction, bait):
            _frame(axis, story.days, names_days=axis is bait, names_values=k == 0)
    figure.text(0.02, 0.945, title, fontsize=18, fontweight="bold", color=_hex(INK))
    about = (
        "The same simulated user twice, with the same habits and the same luck: only what is "
        "shown differs. A bar is a visit, a piece of it a card."
    )
    figure.text(0.02, 0.912, about, fontsize=11, color=_hex(GREY))
    _draw_legend(figure, inks)
    figure.text(0.02, 0.018, source, fontsize=8.5, color=_hex(GREY))
    figure.savefig(file)


def _draw_visits(axis: "Axes", story: Story, inks: dict[int, str], most: float) -> None:
    from matplotlib.ticker import MaxNLocator

    for before, after in pairwise(story.visits):
        if after.day - before.day > 1:
            days = count(after.day - before.day - 1, "day")
            _draw_away(axis, before.day + 1, after.day, most, f"{days}\naway")
    last = story.visits[-1].day + 1 if story.visits else 0
    if last < story.days:
        _draw_away(axis, last, story.days, most, "still\naway" if story.stays else "gone\nfor good")
    for visit in story.visits:
        minutes = np.array([swipe.reply.watch_s / 60.0 for swipe in visit.swipes])
        colours = [inks.get(swipe.card.topic, _OTHER) for swipe in visit.swipes]
        place, floors = visit.day + 0.5, np.cumsum(minutes) - minutes
        axis.bar(place, minutes, _BAR_DAYS, floors, color=colours, lw=0.5, edgecolor="white")
        axis.annotate(
            clock(visit.hour), (place, visit.watched_s / 60.0), xytext=(0, 3),
            textcoords="offset points", ha="center", fontsize=8, color=_hex(GREY),
        )  # fmt: skip
    axis.set_ylim(0.0, most * 1.18)
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _name(axis, "Minutes watched in each visit, by topic; above a bar the hour of the visit")


def _draw_away(axis: "Axes", first: int, end: int, most: float, words: str) -> None:
    """Shade days without a visit, first to end - 1."""
    axis.axvspan(first, end, color=_hex(FAINT), lw=0, alpha=0.6)
    place = ((first + end) / 2.0, most * 1.12)
    axis.annotate(words, place, ha="center", va="top", fontsize=8.5, color=_hex(GREY))


def _draw_satisfaction(axis: "Axes", story: Story) -> None:
    days: list[float] = []
    values: list[float] = []
    for visit in story.visits:
        first, n = visit.day + 0.5 - _BAR_DAYS / 2.0, len(visit.satisfaction)
        days += (first + _BAR_DAYS * np.arange(n) / max(n - 1, 1)).tolist()
        values += visit.satisfaction
    x, y = np.array(days), np.array(values)
    axis.axhline(0.5, color=_hex(GREY), lw=0.8, ls=(0, (3, 3)))
    for is_content, colour in ((y >= 0.5, GOOD), (y < 0.5, BAD)):
        axis.fill_between(
            x, 0.5, y, where=is_content, interpolate=True, color=_hex(colour), alpha=0.25, lw=0
        )
    axis.plot(x, y, color=_hex(INK), lw=1.6)
    axis.set_ylim(0.2, 0.85)
    axis.set_yticks([0.25, 0.5, 0.75], ["low", "neutral", "high"])
    _name(axis, "Satisfaction, which the server does not see")


def _draw_bait(axis: "Axes", story: Story) -> None:
    baits = [np.mean([swipe.card.bait for swipe in visit.swipes]) for visit in story.visits]
    places = [visit.day + 0.5 for visit in story.visits]
    axis.bar(places, baits, _BAR_DAYS, color=_hex(BAD), alpha=0.7, lw=0)
    axis.set_ylim(0.0, 0.8)
    axis.set_yticks([0.0, 0.4, 0.8], ["none", "half", "much"])
    _name(axis, "Bait among what was shown: attracts now, disappoints after")


def _write_head(axis: "Axes", story: Story, average: Averages) -> None:
    cards = sum(len(visit.swipes) for visit in story.visits)
    ends = "" if story.stays else ", then gone for good"
    this = (
        f"this user: {count(len(story.visits), 'visit')}, {count(cards, 'card')}, "
        f"{story.watched_s / 60.0:.0f} minutes{ends}"
    )
    many = (
        f"average of {average.n_users:,}: {average.visits:.1f} visits, "
        f"{average.watched_s / 60.0:.0f} minutes, {average.card_s:.0f} s a card, "
        f"last satisfaction {average.satisfaction:.2f}"
    )
    lines = (
        (1.30, 14, "bold", INK, SAYS[story.policy]),
        (1.215, 10.5, "normal", INK, this),
        (1.14, 10.5, "normal", GREY, many),
    )
    for y, size, weight, colour, words in lines:
        axis.text(
            0.0, y, words, transform=axis.transAxes, fontsize=size, fontweight=weight,
            color=_hex(colour),
        )  # fmt: skip


def _name(axis: "Axes", words: str) -> None:
    axis.set_title(words, loc="left", fontsize=9, color=_hex(GREY), pad=4)


def _frame(axis: "Axes", days: int, *, names_days: bool, names_values: bool) -> None:
    axis.set_xlim(0.0, days)
    axis.set_xticks(np.arange(days + 1), [], minor=True)
    names = [f"day {day + 1}" if day == 0 else f"{day + 1}" for day in range(days)]
    axis.set_xticks(np.arange(days) + 0.5, names if names_days else [])
    axis.tick_params(axis="both", which="both", length=0, labelsize=9, labelcolor=_hex(GREY))
    axis.grid(True, axis="x", which="minor", color=_hex(FAINT), lw=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(_hex(GREY))
    if not names_values:
        axis.set_yticklabels([])


def _draw_legend(figure: "Figure", inks: dict[int, str]) -> None:
    from matplotlib.patches import Patch

    marks = [Patch(color=ink, label=TOPIC_NAMES[topic]) for topic, ink in inks.items()]
    marks.append(Patch(color=_OTHER, label="other topics"))
    figure.legend(
        handles=marks, loc="lower left", bbox_to_anchor=(0.012, 0.042), ncols=len(marks),
        frameon=False, fontsize=9, handlelength=0.9, handleheight=0.9, columnspacing=1.3,
    )  # fmt: skip


def _topic_inks(stories: Sequence[Story]) -> dict[int, str]:
    """Return colours of the topics that were watched longest, over all stories."""
    watched_s: Counter[int] = Counter()
    for story in stories:
        for visit in story.visits:
            for swipe in visit.swipes:
                watched_s[swipe.card.topic] += round(swipe.reply.watch_s)
    topics = [topic for topic, _ in watched_s.most_common(len(TOPIC_INKS))]
    return dict(zip(topics, TOPIC_INKS, strict=False))


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
