"""The hook that gives items their vectors: its name, its answers, and the items it is asked about.

A hook is a function of one's own: it takes a sequence of items and returns for each a vector, or
None where it cannot tell. Reasons and rejected designs: `docs/decisions/item-content.md`.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from env.vocabulary import Item
from policies.custom.load import say
from serve.config import Config
from serve.limits import MAX_VECTOR_LENGTH

MAX_DIMS = 4096
Hook = Callable[[Sequence[Item]], Sequence[object]]


class HookError(ValueError):
    """The hook cannot be used; the message says why, in one line."""


class HookArgs(msgspec.Struct, frozen=True):
    """The hook and its surroundings.

    Attributes:
        name: MODULE:FUNCTION.
        folder: searched first for the module.
        media_folder: working folder of the hook.
    """

    name: str
    folder: str
    media_folder: str

    @classmethod
    def of(cls, config: Config) -> "HookArgs | None":
        """Return the configured hook, if any."""
        content = config.content
        if not content.embed:
            return None
        folders = (config.custom.folder, content.media_folder)
        return cls(content.embed, *(str(Path(folder).resolve()) for folder in folders))


class Embedded(msgspec.Struct, frozen=True):
    """The answer about one item: a vector, neither (the hook cannot tell), or a problem."""

    vector: tuple[float, ...] | None = None
    problem: str = ""

    @property
    def outcome(self) -> str:
        """The answer in one word, for counts."""
        if self.problem:
            return "failed"
        return "none" if self.vector is None else "vector"


def needs_embedding(item: Item, hook: str) -> bool:
    """Return whether a hook is to be asked about an item.

    It is asked about media without a vector, once. Another hook's answer does not count.
    """
    is_asked = item.embedder == hook
    is_own = item.vector is not None and not item.embedder
    return bool(item.media) and not is_asked and not is_own


def with_answer(item: Item, answer: Embedded, hook: str) -> Item:
    """Return an item with a hook's answer; after a problem it is still to be asked about."""
    if answer.problem:
        return item
    return msgspec.structs.replace(item, vector=answer.vector, embedder=hook)


def load_hook(args: HookArgs) -> Hook:
    """Import the hook, with its folder first on the path for good.

    Raises:
        HookError: there is no such module or function, or the import fails.
    """
    module_name, _, function_name = args.name.partition(":")
    sys.path.insert(0, args.folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise HookError(f"importing it raised {say(error)}") from error
    hook = getattr(module, function_name, None)
    if not callable(hook):
        raise HookError(f"{module.__file__} has no function {function_name}")
    return hook  # type: ignore[no-any-return]  # its answers are checked


def embed(hook: Hook, items: Sequence[Item]) -> list[Embedded]:
    """Return the hook's answers; if it fails for several items, it is asked about each alone."""
    try:
        answers = list(hook(items))
        if len(answers) == len(items):
            return [_checked(answer) for answer in answers]
        problem = f"expected a sequence of {len(items)} answers, got {len(answers)}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - told in the answer
        problem = f"raised {say(error)}"
    if len(items) == 1:
        return [Embedded(problem=problem)]
    return [found for item in items for found in embed(hook, [item])]


def _checked(answer: object) -> Embedded:
    """Return an answer as a vector, or as a problem where it is none."""
    if answer is None:
        return Embedded()
    try:
        values = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError) as error:
        return Embedded(problem=f"expected a vector of numbers or None, got {say(error)}")
    if values.ndim != 1 or not 1 <= len(values) <= MAX_DIMS:
        return Embedded(
            problem=f"expected 1 to {MAX_DIMS} numbers, got an array of shape {values.shape}"
        )
    if not np.isfinite(values).all() or np.linalg.norm(values) > MAX_VECTOR_LENGTH:
        return Embedded(problem=f"expected a finite vector of a length <= {MAX_VECTOR_LENGTH:g}")
    return Embedded(tuple(values.tolist()))
