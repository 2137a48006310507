"""The frame of an HTML report: one file without scripts or external resources.

Text from outside is escaped, and a content policy forbids loading anything. A template engine was
rejected (a dependency for a few pages), as were scripted charts (an archived file must still show
the same).
"""

from collections.abc import Iterable
from html import escape
from importlib import resources


def page(title: str, body: str, style: str = "") -> str:
    """Return a page.

    Args:
        title: of the window, as text.
        body: what stands in it, as HTML.
        style: rules that come after the reports' common ones.
    """
    common = resources.files("replay.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{common}{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a section of parts that are HTML."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def figure(svg: str, caption: str) -> str:
    """Return a chart with its caption."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def bullets(sentences: Iterable[str]) -> str:
    """Return sentences as a list."""
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"
