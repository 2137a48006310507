"""The fold of the log that a policy of one's own learns: one interaction at a time.

The learner of the server and an audit cut the log into different batches; handing over single
interactions makes the state the same for both. An interaction on which the code raises is left out
and counted.
"""

import logging
from collections.abc import Sequence

import msgspec

from env.interface import CorrectingLearner, KeptLearner
from env.vocabulary import Correction, Example
from policies.custom.load import CustomCode, say
from policies.explorers import Uniform

logger = logging.getLogger(__name__)


class CustomState(msgspec.Struct, frozen=True):
    """A snapshot's part about one learner.

    Attributes:
        policy: MODULE:FUNCTION.
        code: hash of the code that learned.
        state: as its `dumps` gave it.
        learned: examples that it learned from.
        failed: examples that its code raised on.
    """

    policy: str
    code: str
    state: bytes
    learned: int = 0
    failed: int = 0


def part_name(policy: str) -> str:
    """Return the name of a snapshot's part for a policy; parts take no capitals and no colons.

    >>> part_name("mine.Deep:best_of")
    'custom.mine.-deep-.best_of'
    """
    return f"custom.{_plain(policy)}"


def _plain(policy: str) -> str:
    shifted = "".join(f"-{c.lower()}" if c.isupper() else c for c in policy)
    return shifted.replace(":", "-.")


def decode_state(data: bytes) -> CustomState:
    """Return what a snapshot's part says.

    Raises:
        msgspec.MsgspecError: these are no bytes of such a part.
    """
    return msgspec.msgpack.decode(data, type=CustomState)


def load_state(code: CustomCode, state: bytes) -> KeptLearner:
    """Return a policy that knows a state.

    Raises:
        ValueError: it does not learn, or its code cannot load the state.
    """
    learner = code.learner(Uniform())
    if learner is None:
        raise ValueError(f"{code.name}: expected a policy that learns")
    try:
        learner.loads(state)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{code.name}: loading its state raised {say(error)}") from error
    return learner


class CustomLearning:
    """What one policy of one's own has learned up to an offset of the log."""

    def __init__(self, code: CustomCode, kept: CustomState | None = None) -> None:
        """Start before the first interaction, or from a kept state.

        Raises:
            ValueError: the code cannot load the state, or the state is of other code.
        """
        self._code = code
        kept = kept or CustomState(code.name, code.code, b"")
        if (kept.policy, kept.code) != (code.name, code.code):
            raise ValueError(f"{code.name}: the state was learned by other code")
        self.learned, self.failed = kept.learned, kept.failed
        if kept.state:
            self._learner = load_state(code, kept.state)
            return
        learner = code.learner(Uniform())
        if learner is None:
            raise ValueError(f"{code.name}: expected a policy that learns")
        self._learner = learner

    @property
    def name(self) -> str:
        """MODULE:FUNCTION."""
        return self._code.name

    def learn(self, examples: Sequence[Example]) -> None:
        """Learn from each of these, in this order; corrections only if it takes them."""
        for example in examples:
            try:
                if not isinstance(example, Correction):
                    self._learner.learn((example,))
                elif isinstance(self._learner, CorrectingLearner):
                    self._learner.correct((example,))
                else:
                    continue
                self.learned += 1
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the log is folded on
                self.failed += 1
                if self.failed == 1:
                    logger.warning("policy=%s left out an example: %s", self.name, say(error))

    def state(self) -> bytes:
        """Return all that it knows, as its `dumps` gives it.

        Raises:
            TypeError: its `dumps` gives something else than bytes.
        """
        state = self._learner.dumps()
        if not isinstance(state, bytes):
            raise TypeError(f"{self.name}: expected bytes of dumps, got {type(state).__name__}")
        return state

    def to_bytes(self) -> bytes:
        """Return a snapshot's part."""
        code = self._code
        return msgspec.msgpack.encode(
            CustomState(code.name, code.code, self.state(), self.learned, self.failed)
        )
