"""The scene of a request (place, time, device), from the request first and the profile second.

Hours are local. The time zone is the profile's, else the main one of the country, else UTC. An
unknown zone or country counts as not given: no request is refused because of its scene. Rejected
alternatives: `docs/decisions/user-state.md`.
"""

from datetime import UTC, datetime, tzinfo
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from env.users.state import UserState, live_session
from env.vocabulary import Scene, SessionId, primary_language

_DAY_MS = 24 * 3_600_000

# zone.tab puts a country's most populous zone first only where that agrees with geography; these
# are the countries where it does not.
_MOST_POPULOUS = {
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "RU": "Europe/Moscow",
    "UA": "Europe/Kyiv",
}


def observe(
    state: UserState,
    session: SessionId,
    now_ms: int,
    *,
    country: str = "",
    language: str = "",
    device: str = "",
    network: str = "",
    referrer: str = "",
    origin: str = "",
) -> Scene:
    """Return the scene of a page requested now.

    Args:
        state: of the user.
        session: of the page; `position` is 0 unless it is the current session.
        now_ms: the server's time.
        country: from the request; empty for the profile's. Likewise `language`, `device`.
        language: "en" or "en-GB"; the region is ignored.
        device: see `env.vocabulary.Profile`.
        network: for example "wifi" or "cellular".
        referrer: the caller's own words; case and outer blanks are ignored.
        origin: keyed hash of the address block that the request came from.
    """
    profile = state.profile
    country = (country or profile.country).strip().upper()
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(
        find_zone(profile.time_zone, country)
    )
    return Scene(
        at_ms=now_ms,
        country=country,
        language=primary_language(language or profile.language),
        device=(device or profile.device).strip().lower(),
        network=network.strip().lower(),
        hour=local.hour,
        weekday=local.weekday(),
        position=state.position if live_session(state, now_ms) == session else 0,
        referrer=referrer.strip().casefold(),
        cohort=profile.cohort.strip(),
        origin=origin,
        tenure_days=_tenure_days(profile.registered_ms, now_ms),
    )


def find_zone(time_zone: str, country: str) -> tzinfo:
    """Return the zone of this IANA name, else the main one of the country, else UTC.

    >>> str(find_zone("", "BR")), str(find_zone("Mars/Olympus", "TH")), str(find_zone("", ""))
    ('America/Sao_Paulo', 'Asia/Bangkok', 'UTC')
    """
    name = time_zone if time_zone in _zone_names() else _country_zones().get(country)
    return ZoneInfo(name) if name else UTC


def _tenure_days(registered_ms: int, now_ms: int) -> int:
    """Return whole days since registration, 0 where its time is unknown or in the future."""
    return max(now_ms - registered_ms, 0) // _DAY_MS if registered_ms > 0 else 0


@cache
def _zone_names() -> frozenset[str]:
    table = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8")
    return frozenset(table.split())


@cache
def _country_zones() -> dict[str, str]:
    table = resources.files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    zones: dict[str, str] = {}
    for line in table.splitlines():
        if line and not line.startswith("#"):
            country, _, zone, *_ = line.split("\t")
            zones.setdefault(country, zone)
    return zones | _MOST_POPULOUS
