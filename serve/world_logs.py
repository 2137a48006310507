"""Reads logs that a world can be fitted to: KuaiRand's columns, or our own event log.

A file is one log in KuaiRand's columns, with item and user tables beside it if present; a folder is
KuaiRand's, or one of our data folders. Of our own log, seen and closed decisions count, and a card
begins when the cards before it on the page were over.
"""

from pathlib import Path

import numpy as np
from msgspec.structs import replace

from env.identify import Log
from env.impressions import Impressions
from env.vocabulary import Floats, Item, ItemId, Profile, UserId
from replay.dataset import Dataset
from replay.rows import FLAGS
from serve.config import Config
from serve.data_folder import open_data
from serve.evaluating import read_dataset
from serve.importers import kuairand


def read_log(path: Path) -> Log:
    """Return the log in a file or folder.

    Raises:
        BadFile: it is KuaiRand's, and invalid.
        Refused: it is a data folder with an unusable log.
    """
    if path.is_dir() and not any(path.glob("log_standard*")):
        return _read_own(path)
    found = kuairand.read(path) if path.is_dir() else kuairand.read_log(path)
    return Log(
        found.impressions,
        found.items,
        found.users,
        midnight_ms=kuairand.LAST_DAY_MS,
        has_vectors=any(item.tags for item in found.items),
    )


def _read_own(folder: Path) -> Log:
    config = Config()
    config = replace(config, data=replace(config.data, folder=str(folder)))
    with open_data(config) as store:
        dataset = read_dataset(config, store.log)
        with store.view() as view:
            known = {item.item_id: item for item in view.items()}
            people = view.people()
    shown = [
        dataset.pages[page].candidates[action]
        for page, action in zip(dataset.page.tolist(), dataset.action.tolist(), strict=True)
    ]
    index = {item_id: k for k, item_id in enumerate(dict.fromkeys(shown))}
    nobody = (UserId(""), Profile())
    return Log(
        _impressions(dataset, [index[item_id] for item_id in shown]),
        [_item(known, item_id) for item_id in index],
        [people.get(user, nobody) for user in dataset.users],
    )


def _item(known: dict[ItemId, Item], item_id: ItemId) -> Item:
    return known.get(item_id) or Item(item_id=item_id)


def _impressions(dataset: Dataset, item: list[int]) -> Impressions:
    """Return decisions as impressions; each deleted user stays distinct."""
    drawn_ms = np.array([page.at_ms for page in dataset.pages], dtype=np.int64)[dataset.page]
    flags = dict(zip(FLAGS, dataset.flags.T, strict=True))
    return Impressions(
        user=dataset.user,
        item=np.array(item, dtype=np.int64),
        at_ms=drawn_ms + (1000.0 * _begins_s(dataset)).astype(np.int64),
        surface=np.zeros(len(dataset), dtype=np.int64),
        play_s=dataset.dwell_s,
        duration_s=dataset.duration_s,
        like=flags["like"],
        comment=flags["comment"],
        share=flags["share"],
        follow=flags["follow"],
        not_interested=flags["not_interested"],
    )


def _begins_s(dataset: Dataset) -> Floats:
    """Return the seconds from a page's draw to each of its cards; pages stand together."""
    order = np.lexsort((dataset.slot, dataset.page))
    dwell_s = dataset.dwell_s[order]
    before = np.cumsum(dwell_s) - dwell_s
    page = dataset.page[order]
    first = np.append(True, np.diff(page) != 0)
    begins = before - np.repeat(before[first], np.diff(np.append(np.flatnonzero(first), len(page))))
    result = np.empty(len(dataset), dtype=np.float64)
    result[order] = begins
    return result
