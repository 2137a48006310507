"""The command `nextswipe world twin`, which prints the exact twin's reference policies."""

from typing import TYPE_CHECKING

from serve.commands.settings import AsJson, print_json

if TYPE_CHECKING:
    from env.miniswipe_grades import Graded

COLUMNS = (
    "policy",
    "share of optimal watch time",
    "of optimal days",
    "score, watch",
    "score, days",
    "cards a session",
    "seconds a card",
    "days between sessions",
    "active days",
    "D1",
    "D7",
    "D30",
    "active on a day, last ten",
)


def twin(as_json: AsJson = False) -> None:
    """Print the values of the reference policies of MiniSwipe, the exact twin.

    All figures are exact expectations: values by dynamic programming, habits over 60 days.
    """
    from threadpoolctl import threadpool_limits

    from env.miniswipe_grades import grade_policies

    # The matrices are small: BLAS threads only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        grades = grade_policies()
    if as_json:
        print_json(grades)
        return
    from rich.console import Console
    from rich.table import Table

    optimum = grades.optimum
    table = Table(
        title=f"MiniSwipe over {grades.days} days; the optimum is {optimum['watch']:,.0f} s, or "
        f"{optimum['days']:.2f} days"
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "policy" else "right")
    for graded in grades.policies:
        table.add_row(graded.policy, *cells(graded))
    Console().print(table)


def cells(graded: "Graded") -> list[str]:
    """Return the cells of a row, in the order of `COLUMNS`."""
    habits = graded.habits
    return [
        *(f"{share:.3f}" for share in graded.share.values()),
        *(f"{score:z.2f}" for score in graded.score.values()),
        f"{habits.session_swipes:.1f}",
        f"{habits.swipe_s:.1f}",
        f"{habits.gap_days:.2f}",
        f"{habits.active_days:.1f}",
        *(f"{share:.3f}" for share in (*habits.retention, habits.daily_active)),
    ]
