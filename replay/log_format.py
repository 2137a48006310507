"""Check of the log's format version, for any store."""

from env.records import FORMAT_VERSION


def require_known_format(found: int, where: str) -> None:
    """Raise ValueError if a newer nextswipe wrote the log."""
    if found > FORMAT_VERSION:
        raise ValueError(
            f"{where}: expected log format {FORMAT_VERSION} or older, got {found}; it was written "
            "by a newer nextswipe: upgrade this one"
        )
