"""A small folder as KuaiRand publishes it, whose users prefer some of the items."""

from pathlib import Path

import numpy as np

from serve.importers import kuairand

N_ITEMS, N_USERS, N_IMPRESSIONS = 20, 15, 400


def write_kuairand(tmp_path: Path, *, n: int = N_IMPRESSIONS, seed: int = 1) -> Path:
    """Write a folder whose users prefer some of the items."""
    folder = tmp_path / f"kuairand-{seed}"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    videos = [f"{k},{k % 7},NORMAL,2022-04-10,20000,0,{k % 5}" for k in range(N_ITEMS)]
    users = [f"{k},full_active,0,0,{k}" for k in range(N_USERS)]
    user, item = rng.integers(N_USERS, size=n), rng.integers(N_ITEMS, size=n)
    at_ms = kuairand.LAST_DAY_MS + rng.integers(-5 * 86_400_000, 86_400_000, size=n)
    play_ms = np.where(rng.random(n) < 0.2 + 0.03 * item, 15_000, 900)
    rows = zip(user, item, at_ms, play_ms, strict=True)
    log = [f"{u},{i},{at},1,{play},20000,0,0,0,0,0" for u, i, at, play in rows]
    for name, columns, lines in (
        (
            "video_features_basic_pure",
            "video_id,author_id,video_type,upload_dt,video_duration,music_id,tag",
            videos,
        ),
        ("user_features_pure", ",".join(kuairand.USER_COLUMNS), users),
        ("log_standard_pure", ",".join(kuairand.LOG_COLUMNS), log),
    ):
        (folder / f"{name}.csv").write_text("\n".join([columns, *lines, ""]))
    return folder
