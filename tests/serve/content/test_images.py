"""The hook for images: what looks alike is near, and what is no image of the folder is left."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from env.items.content import vector
from env.vocabulary import Float32s, Item, ItemId
from serve.content.hook import HookArgs
from serve.content.worker import HookWorker

SIDE = 256
PER_CLASS = 12
Colour = tuple[int, int, int]
Draw = Callable[[ImageDraw.ImageDraw, Colour, np.random.Generator], None]
HOOK = "serve.content.images:embed_images"


def stripes(draw: ImageDraw.ImageDraw, colour: Colour, rng: np.random.Generator) -> None:
    width = int(rng.integers(12, 30))
    for x in range(0, SIDE, 2 * width):
        draw.rectangle([x, 0, x + width, SIDE], fill=colour)


def dots(draw: ImageDraw.ImageDraw, colour: Colour, rng: np.random.Generator) -> None:
    for x, y in rng.integers(0, SIDE, (60, 2)).tolist():
        r = int(rng.integers(5, 14))
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)


def disc(draw: ImageDraw.ImageDraw, colour: Colour, rng: np.random.Generator) -> None:
    x, y = rng.integers(90, 166, 2).tolist()
    r = int(rng.integers(50, 90))
    draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)


def triangle(draw: ImageDraw.ImageDraw, colour: Colour, rng: np.random.Generator) -> None:
    x, y = rng.integers(90, 166, 2).tolist()
    r, turn = float(rng.integers(60, 100)), float(rng.uniform(0.0, math.tau))
    angles = [turn + k * math.tau / 3 for k in range(3)]
    draw.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a in angles], fill=colour)


def squares(draw: ImageDraw.ImageDraw, colour: Colour, rng: np.random.Generator) -> None:
    side = int(rng.integers(14, 36))
    for x in range(0, SIDE, side):
        for y in range((x // side) % 2 * side, SIDE, 2 * side):
            draw.rectangle([x, y, x + side, y + side], fill=colour)


CLASSES: tuple[Draw, ...] = (stripes, dots, disc, triangle, squares)


def draw_images(folder: Path) -> list[Item]:
    """Draw images of each class, in colours and sizes of their own; return their items."""
    rng = np.random.default_rng(0)
    items = []
    for shape in CLASSES:
        for k in range(PER_CLASS):
            ground, colour = (tuple(row) for row in rng.integers(0, 256, (2, 3)).tolist())
            image = Image.new("RGB", (SIDE, SIDE), ground)
            shape(ImageDraw.Draw(image), colour, rng)
            name = f"{shape.__name__}-{k}.png"
            image.save(folder / name)
            items.append(Item(ItemId(name), media=name))
    return items


def share_alike(vectors: Float32s) -> float:
    """Return how often the nearest image of another is of its class."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    classes = np.repeat(np.arange(len(CLASSES)), PER_CLASS)
    return float(np.mean(classes[similar.argmax(axis=1)] == classes))


def embed(folder: Path, items: list[Item]) -> list[Item]:
    with HookWorker(HookArgs(HOOK, str(folder), str(folder))) as worker:
        answers = worker.embed(items)
    assert not [answer.problem for answer in answers if answer.problem]
    return [
        Item(item.item_id, vector=answer.vector)
        for item, answer in zip(items, answers, strict=True)
    ]


def test_the_nearest_image_is_of_the_same_class_far_more_often_than_by_chance(
    tmp_path: Path,
) -> None:
    items = draw_images(tmp_path)
    embedded = embed(tmp_path, items)
    n, chance = len(items), (PER_CLASS - 1) / (len(items) - 1)
    bound = chance + 6.0 * math.sqrt(chance * (1.0 - chance) / n)
    # As they are in the catalogue, colours apart: raw pixels know little more than the colours.
    assert share_alike(np.array([vector(item) for item in embedded])) > max(bound, 0.9)
    pixels = [np.asarray(Image.open(tmp_path / i.media).resize((16, 16))).ravel() for i in items]
    raw = np.array(pixels, dtype=np.float32)
    assert share_alike(raw / np.linalg.norm(raw, axis=1, keepdims=True)) < 0.6


def test_only_images_in_the_folder_are_opened(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    (folder / "posters").mkdir(parents=True)
    image = Image.new("RGB", (300, 200), (200, 30, 90))
    image.save(folder / "posters" / "1.jpg")
    image.save(tmp_path / "outside.jpg")
    (folder / "broken.png").write_bytes(b"no image")
    media = (
        "posters/1.jpg",
        str(folder / "posters" / "1.jpg"),
        "clip.mp4",
        "https://cdn.example/1.jpg",
        "absent.jpg",
        "../outside.jpg",
        str(tmp_path / "outside.jpg"),
        "broken.png",
    )
    with HookWorker(HookArgs(HOOK, str(folder), str(folder))) as worker:
        answers = worker.embed([Item(ItemId(name), media=name) for name in media])
    assert answers[0].vector == pytest.approx(answers[1].vector, abs=1e-5)
    assert len(answers[0].vector or ()) == 320
    assert [answer.outcome for answer in answers[2:4]] == ["none", "none"]
    problems = [answer.problem for answer in answers[4:]]
    assert problems[0].startswith("raised FileNotFoundError")
    assert problems[1] == "raised ValueError: ../outside.jpg lies outside content.media_folder"
    assert problems[2].endswith("outside.jpg lies outside content.media_folder")
    assert problems[3].startswith("raised UnidentifiedImageError")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_pictures_of_every_mode_have_a_vector(mode: str, tmp_path: Path) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    Image.new(mode, (40, 90)).save(tmp_path / name)
    (embedded,) = embed(tmp_path, [Item(ItemId("a"), media=name)])
    assert embedded.vector is not None
