"""The studies' command line: `make study ARGS='NAME --json'`."""

from tests.studies.commands import app

app(prog_name="study")
