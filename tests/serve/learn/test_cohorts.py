"""Cohorts and coordinates of devices: learned from served users, published, listed, erased."""

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from histories import START_MS, config_of, make_learner
from typer.testing import CliRunner

from env.columns.schema import APPS, N_APPS, index_of
from env.records import FeedbackKind, PageRecord, unpack_halves
from env.users.devices import device_keys
from env.vocabulary import CreatorId, Item, ItemId, Profile, UserId
from policies.collaborative.users import LEAST_USERS
from serve.commands.main import app
from serve.config import Arm, CollaborativeSettings, Config, Experiment, FeedSettings
from serve.jobs.import_data import import_items
from serve.jobs.verify import verify_log
from serve.learn.collaborative import CollaborativeTrainer, open_generations, read_generation
from serve.processes.replica import FeedReplica
from serve.store.open import open_store
from serve.wire.cohorts import CohortsResponse
from serve.wire.feed import CardBody, Event, FeedbackRequest, FeedRequest, SceneBody
from serve.wire.users import ProfileBody

TASTES = (("cooking", "garden"), ("football", "running"), ("guitar", "piano"), ("chess", "coding"))
OTHER_TAGS = ("news", "travel")
N_USERS = 80
N_PAGES = 6
PAGE_MS = 120_000
COUNTRIES = ("GB", "TH", "BR", "JP")


def taste_of(user: int) -> int:
    return user % len(TASTES)


def profile_of(user: int) -> ProfileBody:
    """Users of a taste have apps of a genre, and everybody the same four others."""
    rng = np.random.default_rng(user)
    genre = taste_of(user)
    own = rng.choice(40, 20, replace=False)
    return ProfileBody(
        country=COUNTRIES[genre],
        apps=(*(f"genre {genre} app {k}" for k in own), "chat", "maps", "mail", "bank"),
        os=f"Android {12 + user // 4 % 3}",
        device="phone",
        device_model=f"Model {user // 4 % 5}",
    )


def settings_of(folder: Path) -> Config:
    uniform = Experiment("one", (Arm("all", "uniform"),))
    return msgspec.structs.replace(
        config_of(folder, uniform),
        feed=FeedSettings(candidates=40, eps=0.1),
        collaborative=CollaborativeSettings(dims=4, every_s=0.1, least_answers=1, answers=10_000),
    )


def films() -> list[Item]:
    """Half of the films have a tag of a taste and one of anybody's."""
    tags = [tag for taste in TASTES for tag in taste]
    return [
        Item(
            item_id=ItemId(f"i{k}"),
            creator=CreatorId(f"c{k}"),
            title=f"Film {k}",
            tags=(tags[k % len(tags)], OTHER_TAGS[k // len(tags) % 2]),
            duration_s=30.0,
            published_ms=START_MS - 1_000 * k,
        )
        for k in range(160)
    ]


def answers(user: int, card: CardBody, at_ms: int) -> list[Event]:
    liked = bool(set(TASTES[taste_of(user)]) & set(card.item.tags))
    told: list[tuple[FeedbackKind, float | None]] = [
        ("impression", None),
        ("dwell", 25.0 if liked else 1.0),
        ("leave", None),
    ]
    return [
        Event(f"{kind}-{card.slot}", card.decision_id, kind, at_ms + 100 * i, value)
        for i, (kind, value) in enumerate(told)
    ]


async def swipe(replica: FeedReplica, user: int, k: int) -> None:
    at_ms = START_MS + (k * N_USERS + user) * PAGE_MS
    request = FeedRequest(user_id=UserId(f"p{user}"), size=8, scene=SceneBody(at_ms=at_ms))
    page = await replica.engine.feed(request)
    events = [e for card in page.items for e in answers(user, card, at_ms + 9_000 * card.slot)]
    await replica.engine.feedback(FeedbackRequest(tuple(events)))


async def live(replica: FeedReplica, pages: range) -> None:
    for k in pages:
        for user in range(N_USERS):
            if k == 0:
                await replica.engine.put_user(UserId(f"p{user}"), profile_of(user))
            await swipe(replica, user, k)


def train(config: Config) -> None:
    """Learn what the log says, and publish a generation."""
    with open_store(config, lambda: 0) as store:
        learner = make_learner(config, store)
        while learner.step():
            pass
        trainer = CollaborativeTrainer(
            store, open_generations(config), config.collaborative, monotonic_s=lambda: 0.0
        )
        assert trainer.offer(learner.learning)
        assert trainer.train() is not None
