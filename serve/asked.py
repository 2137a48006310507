"""The query: the user, the scene and the model version that one page is drawn for."""

from dataclasses import dataclass

from env.users import UserState
from env.vocabulary import Scene
from serve.follower import Served


@dataclass(frozen=True, slots=True)
class Asked:
    """The inputs of one page, which every stage of the pipeline reads."""

    state: UserState
    scene: Scene
    served: Served
    size: int  # number of cards, at least 1
    seed: int  # seed of the page's draws
