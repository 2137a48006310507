"""Keys of what a profile names: installed apps, the device's model, the OS and its version.

Names are the caller's own words. Their meaning is learned from all profiles (`env.features.apps`),
so only their hashes are handed on. Rejected alternatives:
`docs/decisions/cohorts.md`.
"""

import re
from functools import lru_cache

from env.records import item_key
from env.vocabulary import Profile

_OS = re.compile(r"\s*(\D*?)[\s/_.-]*(?:(\d+).*)?", re.DOTALL)


def parse_os(os: str) -> tuple[str, str]:
    """Return the name of an operating system and its major version, empty where there is none.

    >>> parse_os("Android 14"), parse_os("iOS 17.5.1"), parse_os(" iPadOS "), parse_os("")
    (('android', '14'), ('ios', '17'), ('ipados', ''), ('', ''))
    """
    match = _OS.fullmatch(os)
    return (match[1].casefold(), match[2] or "") if match else ("", "")


def device_keys(profile: Profile) -> list[int]:
    """Return the distinct 64-bit keys of the apps, the OS with its version, and the model.

    Case and outer blanks of names are ignored, and empty names say nothing.

    >>> one, other = Profile(apps=(" Chat", "maps", "")), Profile(apps=("chat", "maps", "CHAT"))
    >>> device_keys(one) == device_keys(other)
    True
    """
    keys = dict.fromkeys(_key("app", app) for app in profile.apps)
    keys[_key("os", " ".join(parse_os(profile.os)))] = None
    keys[_key("device", profile.device_model)] = None
    keys.pop(0, None)
    return list(keys)


@lru_cache(maxsize=16_384)
def _key(kind: str, name: str) -> int:
    """Return the key of a name of this kind; 0: it is empty."""
    folded = name.strip().casefold()
    return item_key(f"{kind} {folded}") if folded else 0
