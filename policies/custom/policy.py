"""A policy of one's own as it is served and logged: under its name, with the hash of its code.

A page that it drew names it `MODULE:FUNCTION@VERSION`; the page's explorer arguments hold the hash
of the code and the policy's own arguments. VERSION is that of the published model whose state it
had learned, 0 for one that has learned nothing. What it is handed cannot be written to, so that no
page is logged or drawn otherwise than it was asked for.
"""

from dataclasses import replace
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from env.interface import Policy
from env.vocabulary import Bools, Context, Features, Floats

Number = TypeVar("Number", bound=np.generic)


class CustomArgs(msgspec.Struct, frozen=True, tag="custom", tag_field="kind"):
    """The explorer arguments of a page that a policy of one's own drew.

    Unknown arguments pass, so that pages of a later release can be read.

    Attributes:
        policy: MODULE:FUNCTION.
        code: hash of its code, see `policies.custom.load`.
        explorer: the policy's own arguments.
    """

    policy: str
    code: str
    explorer: dict[str, object]


def custom_args(explorer: dict[str, object]) -> CustomArgs | None:
    """Return what a page's logged arguments say; None: no policy of one's own drew the page.

    Raises:
        msgspec.ValidationError: they begin like those of one, and are not.
    """
    if explorer.get("kind") != "custom":
        return None
    return msgspec.convert(explorer, CustomArgs)


def custom_version(policy: str) -> int:
    """Return the version in the name of a policy of one's own; 0 where there is none.

    >>> custom_version("mine:shortest@7"), custom_version("mine:shortest@0")
    (7, 0)
    """
    name, _, number = policy.rpartition("@")
    return int(number) if ":" in name and number.isdecimal() else 0


class CustomPolicy:
    """A policy of one's own under the name and the arguments that pages are logged with."""

    def __init__(self, policy: Policy, name: str, code: str, version: int = 0) -> None:
        """Draw by this policy.

        Args:
            policy: as its factory made it, its state loaded.
            name: MODULE:FUNCTION.
            code: hash of its code.
            version: of the state that it has learned; 0: it has learned nothing.
        """
        self.name = f"{name}@{version}"
        self.inner = policy
        self.args = CustomArgs(name, code, plain_args(policy))

    @property
    def explorer(self) -> dict[str, object]:
        """The arguments, as the log gives them back."""
        args: dict[str, object] = msgspec.to_builtins(self.args)
        return args

    def score(self, context: Context) -> Floats:
        """Return the policy's scores, shape (n,), frozen."""
        given = context.features
        features = Features(_frozen(given.shared), _frozen(given.actions), _frozen(given.keys))
        return _frozen(np.asarray(self.inner.score(replace(context, features=features))))

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return the policy's pmf, shape (n,)."""
        return np.asarray(self.inner.explore(scores, _frozen(mask)))


def plain_args(policy: Policy) -> dict[str, object]:
    """Return a policy's own arguments exactly as a log gives them back: lists, not tuples."""
    args: dict[str, object] = msgspec.msgpack.decode(msgspec.msgpack.encode(policy.explorer))
    return args


def _frozen(array: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
