"""Scenes: the user's own hour, the request's word before the registration's."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import pytest

from env.features.scenes import find_zone, observe
from env.users.state import SESSION_SILENCE_MS, UserState, newcomer
from env.vocabulary import Profile, Scene, SessionId

S = SessionId("s")
NOW_MS = int(datetime(2026, 3, 1, 23, 30, tzinfo=UTC).timestamp() * 1000)  # a Sunday
DAY_MS = 24 * 3_600_000


def scene(profile: Profile, **fields: str) -> Scene:
    return observe(newcomer(profile), S, NOW_MS, **fields)


@pytest.mark.parametrize(
    ("profile", "hour", "weekday"),
    [
        (Profile(), 23, 6),
        (Profile(country="TH"), 6, 0),
        (Profile(country="th "), 6, 0),
        (Profile(country="US"), 18, 6),
        (Profile(country="US", time_zone="America/Los_Angeles"), 15, 6),
        (Profile(country="TH", time_zone="Mars/Olympus"), 6, 0),
        (Profile(country="TH", time_zone="../../etc/passwd"), 6, 0),
        (Profile(country="TH", time_zone="America"), 6, 0),
        (Profile(country="ZZ"), 23, 6),
        (Profile(country="IN"), 5, 0),
    ],
)
def test_the_hour_is_the_user_s_own(profile: Profile, hour: int, weekday: int) -> None:
    seen = scene(profile)

    assert (seen.hour, seen.weekday, seen.at_ms) == (hour, weekday, NOW_MS)


@pytest.mark.parametrize("country", ["GB", "US", "ID", "MY", "TH", "VN", "SG", "PH"])
def test_the_cart_markets_have_a_zone(country: str) -> None:
    assert str(find_zone("", country)) != "UTC"


@pytest.mark.parametrize(
    ("country", "zone"),
    [
        ("AU", "Australia/Sydney"),
        ("BR", "America/Sao_Paulo"),
        ("CA", "America/Toronto"),
        ("RU", "Europe/Moscow"),
        ("UA", "Europe/Kyiv"),
    ],
)
def test_a_country_of_many_zones_has_its_most_populous(country: str, zone: str) -> None:
    assert str(find_zone("", country)) == zone


def test_every_known_zone_can_be_observed() -> None:
    for name in available_timezones() & {*_published_zones()}:
        assert find_zone(name, "TH") == ZoneInfo(name)


def _published_zones() -> list[str]:
    from importlib import resources

    return resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()


def test_the_request_rules_over_the_registration() -> None:
    profile = Profile(country="GB", language="en", device="desktop")

    registered = scene(profile)
    asked = scene(profile, country="vn", language="vi-VN", device="Phone", network="WiFi")

    assert (registered.country, registered.language, registered.device) == ("GB", "en", "desktop")
    assert (asked.country, asked.language, asked.device, asked.network) == (
        "VN",
        "vi",
        "phone",
        "wifi",
    )
    assert asked.hour == 6


def test_the_position_counts_only_in_the_session_under_way() -> None:
    state = msgspec.structs.replace(
        newcomer(Profile()), session=S, last_ms=NOW_MS - 1000, position=7
    )

    def position(state: UserState, session: SessionId, now_ms: int) -> int:
        return observe(state, session, now_ms).position

    assert position(state, S, NOW_MS) == 7
    assert position(state, SessionId("other"), NOW_MS) == 0
    assert position(state, S, NOW_MS + SESSION_SILENCE_MS) == 0


def test_referrer_and_origin_are_the_requests_and_the_cohort_the_registrations() -> None:
    seen = scene(Profile(cohort=" 2_14_day_new "), referrer=" Friend ", origin="9f3a")
    plain = scene(Profile())

    assert (seen.referrer, seen.origin, seen.cohort) == ("friend", "9f3a", "2_14_day_new")
    assert (plain.referrer, plain.origin, plain.cohort) == ("", "", "")


@pytest.mark.parametrize(
    ("registered_ms", "days"),
    [
        (0, 0),
        (NOW_MS, 0),
        (NOW_MS + 5 * DAY_MS, 0),
        (NOW_MS - DAY_MS + 1, 0),
        (NOW_MS - DAY_MS, 1),
        (NOW_MS - 400 * DAY_MS - 5, 400),
    ],
)
def test_tenure_is_whole_days_since_the_registration(registered_ms: int, days: int) -> None:
    assert scene(Profile(registered_ms=registered_ms)).tenure_days == days
