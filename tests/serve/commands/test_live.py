"""The figures that are shown while a server runs: those of the log since, and safe to close."""

import threading
from pathlib import Path

from histories import START_MS, config_of, make_history
from rich.console import Console
from rich.table import Table
from waiting import DEADLINE_S

from serve.commands.up import Figures


def texts(table: Table) -> list[list[str]]:
    """Return a table's rows as they are printed."""
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(table)
    lines = [line for line in captured.get().splitlines() if "│" in line]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


def test_figures_are_those_of_what_happened_since(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    make_history(config, n_users=5, rounds=range(2))
    clock = [START_MS]
    figures = Figures(config, now_ms=lambda: clock[0])
    before = texts(figures.table())
    make_history(config, n_users=5, rounds=range(2, 4))
    clock[0] += 2_000
    rows = texts(figures.table())
    figures.close()
    assert before[0] == ["pages", "0", "0.0 a second"]
    assert before[3][1] == "none yet"
    assert rows[0] == ["pages", "10", "5.0 a second"]
    assert rows[1][0] == "events"
    assert int(rows[1][1].replace(",", "")) >= 3 * 4 * 10
    assert rows[2][:2] == ["model", "version 4"]
    assert float(rows[3][1]) > 0.0
    assert rows[3][1] == rows[4][1], "fewer than a thousand cards: the first ones are the last ones"


def test_figures_are_closed_while_they_are_read_and_stay_readable(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    make_history(config, n_users=5, rounds=range(1), publish=False)
    figures = Figures(config, now_ms=lambda: START_MS)
    make_history(config, n_users=5, rounds=range(1, 3), publish=False)
    reading, errors = threading.Event(), []

    def read() -> None:
        try:
            for _ in range(50):
                figures.table()
                reading.set()
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not be there
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert reading.wait(DEADLINE_S)
    figures.close()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert errors == []
    assert texts(figures.table())[0][:2] == ["pages", "10"]
