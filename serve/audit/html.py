"""The audit as one HTML page: the picture, the statements in words, and the tables.

The page has no script, loads nothing (its content security policy forbids it), and escapes all text
from outside. Its style is that of an evaluation report.
"""

import io
from html import escape
from importlib import resources

from serve.audit.picture import draw_audit, headline, source
from serve.audit.response import Audit
from serve.audit.words import TextTable, sentences, tables

_OWN_STYLE = (
    "main { max-width: 1000px; } figure { margin: 0; padding: 8px; background: #fff; "
    "border-radius: 8px; } figure svg text { fill: inherit; } "
    "td, th { padding-right: 14px; text-align: right; } "
    "td:first-child, th:first-child { text-align: left; } section { overflow-x: auto; }"
)


def audit_html(audit: Audit) -> str:
    """Return the page as HTML.

    Raises:
        ImportError: matplotlib is not installed.
    """
    report_style = (
        resources.files("replay.report").joinpath("report.css").read_text(encoding="utf-8")
    )
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(audit))
    shown = "".join(_table(cells) for cells in tables(audit))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        "<title>Fair start and breakout</title>"
        f"<style>{report_style}{_OWN_STYLE}</style></head><body><main>"
        "<header><h1>Does every upload get its audience, and who breaks out?</h1>"
        f"<p>{escape(headline(audit))}</p></header>"
        f"<section><figure>{_picture(audit)}</figure></section>"
        f"<section><h2>In words</h2><ul>{said}</ul></section>{shown}"
        f"<footer>{escape(source(audit))} Written by nextswipe.</footer>"
        "</main></body></html>\n"
    )


def _picture(audit: Audit) -> str:
    """Return the picture as an `<svg>` element without the file header."""
    drawn = io.BytesIO()
    draw_audit(drawn, audit, "svg")
    text = drawn.getvalue().decode("utf-8")
    return text[text.index("<svg") :]


def _table(cells: TextTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in cells.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells.rows
    )
    title = escape(cells.title.capitalize())
    return f"<section><h2>{title}</h2><table><tr>{head}</tr>{rows}</table></section>"
