"""The part of a query that the features of its candidates depend on."""

from dataclasses import dataclass
from functools import cached_property

from env.features.apps import NO_APPS, AppSpace
from env.features.collaborative import NO_FACTORS, ItemFactors, Taste
from env.items.catalogue import Catalogue
from env.items.statistics import Aligned
from env.items.topics import topic_codes
from env.users.state import UserState
from env.users.topics import TopicPosterior, topic_posterior
from env.vocabulary import Ints, Scene


@dataclass(frozen=True)
class FeatureQuery:
    """A user, a scene, and the items as one version of the statistics knows them."""

    user: UserState
    scene: Scene  # position 0 begins a session, however the last one was
    catalogue: Catalogue
    items: Aligned  # the version's statistics, aligned to the catalogue
    factors: ItemFactors = NO_FACTORS  # of the collaborative generation
    apps: AppSpace = NO_APPS  # of the same

    @cached_property
    def by_topic(self) -> TopicPosterior:
        """The posterior of the user's topic effects, of the answers so far."""
        return topic_posterior(self.user.topic_answers)

    @cached_property
    def answered_topics(self) -> Ints:
        """The codes of the posterior's topics, shape (k,); one of no item where none has it."""
        return topic_codes(self.catalogue, self.by_topic.names)

    @cached_property
    def taste(self) -> Taste | None:
        """The user's taste among others' answers; None where nothing is known of it."""
        return self.factors.taste_of(self.user)
