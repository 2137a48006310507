"""A simulated world: a catalogue and its users, drawn once from a response model.

Items are columns, prepared for closed forms, so the expected reward of a page of candidates takes a
few array operations. The draws of an item or a user depend on the seed and their id alone, not on
order or company: two processes with the same model and seed hold the same users.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from env.columns.scales import bait_of, quality_of
from env.columns.schema import CONTENT_DIM, VECTOR_DIM
from env.items.content import vector
from env.vocabulary import Floats, Ints, Item, ItemId, Profile, UserId
from env.world.answers import ItemTerms, item_terms
from env.world.moods import StateDynamics
from env.world.presets import Population, Preset
from env.world.responses import Cohorts, Posteriors, ResponseModel, generated

APPEAL, BAIT, LANGUAGE, TOPIC = range(4)
CAP_S = 9
N_COLUMNS = 12
NO_LANGUAGE = -1
N_TOPIC_BITS = 5
USUAL_PEAKS = (12.5, 20.5)
"""Peaks of users whose cohort is not in the population."""


@dataclass(frozen=True, slots=True)
class UserParameters:
    """The fixed traits of a simulated user."""

    user_id: UserId
    lean: float
    taste: Floats  # (VECTOR_DIM,) affinity is taste · vector
    language: int  # code within the world
    return_class: float  # chance to return the next day, at neutral satisfaction
    peak_hours: tuple[float, float]  # of the day, around which they visit


@dataclass(frozen=True)
class World:
    """Items as columns, with their fitted and drawn properties.

    Attributes:
        population: visit hours and drift of interests.
        columns: APPEAL (log-odds, common to all users), BAIT, LANGUAGE (code), TOPIC, then the
            columns of `terms_of`, CAP_S among them.
    """

    model: ResponseModel
    moods: StateDynamics
    population: Population
    seed: int
    item_ids: tuple[ItemId, ...]  # (n,)
    vectors: Floats  # (n, VECTOR_DIM)
    columns: Floats  # (N_COLUMNS, n)
    languages: dict[str, int]
    index: dict[ItemId, int] = field(repr=False)
    posteriors: Posteriors = field(repr=False)

    def index_of(self, item_id: ItemId) -> int:
        """Return an item's row; raise KeyError if the world was made without it."""
        return self.index[item_id]

    def preset(self, name: str) -> Preset:
        """Return the constants of this world as a preset."""
        model = self.model
        return Preset(
            name=name,
            source="an imported log",
            population=self.population,
            rates=model.rates,
            moods=self.moods,
            priors=model.priors,
            intercept=model.intercept,
            duration=model.duration,
        )

    def user(self, user_id: UserId, profile: Profile) -> UserParameters:
        """Return a user, drawn from the posterior of their own impressions if they have any."""
        rng = _keyed_generator(self.seed, "person", user_id)
        mean, factor = self.posteriors.user_effect(user_id, profile.cohort)
        effect = mean + factor @ rng.standard_normal(1 + VECTOR_DIM)
        cohort = self.population.cohorts.get(profile.cohort)
        is_daily = rng.random() < (self.moods if cohort is None else cohort).daily_share
        return UserParameters(
            user_id=user_id,
            lean=float(effect[0]) + self.population.device_leans.get(profile.device, 0.0),
            taste=effect[1:],
            language=self.languages.get(profile.language, NO_LANGUAGE),
            return_class=self.moods.return_classes[0 if is_daily else 1],
            peak_hours=USUAL_PEAKS if cohort is None else cohort.peak_hours,
        )


def make_world(
    model: ResponseModel,
    items: Sequence[Item],
    seed: int,
    moods: StateDynamics | None = None,
    population: Population | None = None,
) -> World:
    """Return the world of these items, with each item's effect and bait drawn.

    Items have different ids; moods and population default to their constants' defaults.
    """
    posteriors = Posteriors(model)
    languages = {code: k for k, code in enumerate(sorted({item.language for item in items} - {""}))}
    content = np.array([vector(item) for item in items], dtype=np.float64)
    vectors = content.reshape(-1, CONTENT_DIM)[:, :VECTOR_DIM].copy()
    duration_s = np.array([item.duration_s or 0.0 for item in items], dtype=np.float64)
    effect, bait = _draw_items(posteriors, items, seed)
    language = np.array([languages.get(item.language, NO_LANGUAGE - 1) for item in items])
    columns = item_columns(model, duration_s, effect, bait, language, topics(vectors))
    item_ids = tuple(item.item_id for item in items)
    return World(
        model=model,
        moods=moods or StateDynamics(),
        population=population or Population({}),
        seed=seed,
        item_ids=item_ids,
        vectors=vectors,
        columns=columns,
        languages=languages,
        index={item_id: k for k, item_id in enumerate(item_ids)},
        posteriors=posteriors,
    )


def model_of(preset: Preset) -> ResponseModel:
    """Return the response model of a preset's constants, without fitted items and users."""
    names = tuple(preset.population.cohorts)
    lean = np.array([cohort.lean for cohort in preset.population.cohorts.values()])
    return msgspec.structs.replace(
        generated(),
        rates=preset.rates,
        priors=preset.priors,
        intercept=preset.intercept,
        duration=preset.duration,
        cohorts=Cohorts(names, lean, np.zeros((len(names), VECTOR_DIM))),
    )


def item_columns(
    model: ResponseModel,
    duration_s: Floats,
    effect: Floats,
    bait: Floats,
    language: Ints,
    topic: Ints,
) -> Floats:
    """Return `World.columns` of items, shape (N_COLUMNS, n); arguments have shape (n,).

    `duration_s` is 0 where unknown; `effect` is the log-odds common to all users beyond the
    duration's; `bait` is in [0, 1].
    """
    terms = item_terms(model.rates, duration_s, np.asarray(quality_of(effect, bait)), bait)
    return np.vstack([model.appeal(duration_s) + effect, bait, language, topic, *terms])


def terms_of(columns: Floats) -> ItemTerms:
    """Return the terms that columns of items hold, shape (N_COLUMNS, n)."""
    return ItemTerms(
        columns[4:6], columns[6:8], columns[8], columns[CAP_S], columns[10], columns[11]
    )


def terms_of_one(column: Floats) -> ItemTerms:
    """Return the terms that one item's column holds, shape (N_COLUMNS,), as plain numbers."""
    watch_mu, cap_s, like, dislike = column[8:].tolist()
    return ItemTerms(column[4:6], column[6:8], watch_mu, cap_s, like, dislike)


def topics(vectors: Floats) -> Ints:
    """Return the topic of each vector, (n,) in [0, N_TOPICS): the signs of its first numbers.

    Signs map near vectors to the same topic (Charikar, "Similarity estimation techniques from
    rounding algorithms", STOC 2002), for hashed tags and for embeddings alike.

    >>> topics(np.array([[0.3, -0.2, 0.1, -0.5, 0.7], [0.0, 0.0, 0.0, 0.0, 0.0]])).tolist()
    [21, 0]
    """
    return (vectors[:, :N_TOPIC_BITS] > 0.0) @ (1 << np.arange(N_TOPIC_BITS, dtype=np.int64))


def _draw_items(posteriors: Posteriors, items: Sequence[Item], seed: int) -> tuple[Floats, Floats]:
    normals = np.array(
        [_keyed_generator(seed, "item", item.item_id).standard_normal(2) for item in items]
    ).reshape(-1, 2)
    known = np.array([posteriors.item_effect(item.item_id) for item in items]).reshape(-1, 2)
    effect = known[:, 0] + known[:, 1] * normals[:, 0]
    bait = bait_of(effect / posteriors.model.priors.effect_sd, normals[:, 1])
    return effect, np.asarray(bait)


def _keyed_generator(seed: int, kind: str, name: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}/{kind}/{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
