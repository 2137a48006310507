"""The version of what a log is written in, whichever store it is in."""

from env.records import FORMAT_VERSION


def require_known_format(found: int, where: str) -> None:
    """Do nothing if a log can be read by this program.

    Args:
        found: version that it is written in.
        where: it is, for the message.

    Raises:
        ValueError: a newer nextswipe wrote it.
    """
    if found > FORMAT_VERSION:
        raise ValueError(
            f"{where}: expected log format {FORMAT_VERSION} or older, got {found}; it was written "
            "by a newer nextswipe: upgrade this one"
        )
