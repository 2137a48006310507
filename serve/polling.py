"""Asking the store over and over whether there is something new."""

import logging
from collections.abc import Callable
from threading import Event

from serve.store import StoreUnavailable

logger = logging.getLogger(__name__)


def keep_polling(
    poll: Callable[[], object], stop: Event, *, poll_s: float, kept: Callable[[], str]
) -> None:
    """Poll until told to stop; a store that is away for a while is asked again.

    Args:
        poll: asks once.
        stop: set by another thread.
        poll_s: between two polls.
        kept: what is gone on with while the store is away, for the log.
    """
    while not stop.is_set():
        try:
            poll()
        except StoreUnavailable as error:
            logger.warning("kept %s: %s", kept(), error)
        stop.wait(poll_s)
