"""What a page is chosen for, and with."""

from dataclasses import dataclass

from env.users import UserState
from env.vocabulary import Scene
from serve.follower import Served


@dataclass(frozen=True, slots=True)
class Asked:
    """One page's person and moment, and the version that all of it is drawn with."""

    state: UserState
    scene: Scene
    served: Served
    size: int  # cards asked for, at least 1
    seed: int  # of the page's draws
