import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from env.calibration.recipes import rapid
from env.gym.choosers import ChooserName, chooser
from env.gym.swipe import SwipeEnv
from env.gym.vector import SwipeVectorEnv
from env.render.film import Film
from env.render.palette import TOPIC_NAMES, topic_colour
from env.render.render import HEIGHT, WIDTH, render_frame
from env.render.still import Moment, StillCard, StillResponse, Swipe, render_lines
from env.report.story import average, most_average, tell
from env.report.story_picture import draw_story
from env.vocabulary import Float32s

CARD = StillCard(
    serial=77,
    topic=4,
    duration_s=83.0,
    creator=132,
    language="vi",
    exposures=1_204,
    like_share=0.041,
    bait=0.6,
)
STILL = Moment(
    seed=7,
    cohort="daily",
    country="VN",
    language="vi",
    device="phone",
    tenure_days=412,
    day=3,
    horizon_days=60,
    hour=20.4,
    session=5,
    swipes=(
        Swipe(CARD, StillResponse(2.0)),
        Swipe(CARD, StillResponse(9.0)),
        Swipe(CARD, StillResponse(41.2, like=True, share=True)),
    ),
    satisfaction=0.58,
    load=1.3,
    satiation=tuple(1.4 if topic == 4 else 0.0 for topic in range(32)),
    visits=(0, 1, 3),
)


def has_colour(frame: Any, colour: tuple[int, int, int]) -> bool:
    return bool((frame == np.array(colour, dtype=np.uint8)).all(axis=-1).any())


def test_lines_say_who_when_what_and_what_is_hidden() -> None:
    assert render_lines(STILL).splitlines() == [
        "day 4 of 60, 20:24, visit 5: user 7 (daily, VN, vi, phone; registered 412 days ago)",
        "card    comedy, 1:23 min, creator 132, vi, 1,204 exposures, liked by 4.1%",
        "did     watched 41.2 s, like, share",
        "so far  .+# 3 cards, 52.2 s",
        "hidden  satisfaction 0.58, load 1.3, had enough of comedy 1.4",
    ]


def test_lines_say_how_a_visit_ended() -> None:
    assert "; left, back in 2 days\n" in render_lines(replace(STILL, gap_days=2))
    assert "; left for good\n" in render_lines(replace(STILL, gap_days=2, has_churned=True))
    assert "opened the app" in render_lines(replace(STILL, swipes=()))


def test_topics_have_names_and_colours_of_their_own() -> None:
    assert len(set(TOPIC_NAMES)) == len({topic_colour(topic) for topic in range(32)}) == 32


def test_a_frame_is_an_image_of_its_still_alone() -> None:
    pytest.importorskip("PIL", reason="the extra `world` is not installed")
    frame = render_frame(STILL)
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(render_frame(STILL), frame)
    assert has_colour(frame, topic_colour(4))
    assert not has_colour(frame, topic_colour(9))


@pytest.mark.parametrize(
    "change",
    [
        {"satisfaction": 0.2},
        {"load": 0.4},
        {"gap_days": 2},
        {"visits": (0, 3)},
        {"day": 4},
        {"swipes": STILL.swipes[:2]},
        {"swipes": (*STILL.swipes, Swipe(replace(CARD, topic=9), StillResponse(3.0, follow=True)))},
        {"swipes": (*STILL.swipes, Swipe(CARD, StillResponse(3.0, not_interested=True)))},
        {"swipes": (*STILL.swipes, Swipe(replace(CARD, duration_s=0.0), StillResponse(3.0)))},
        {"swipes": ()},
    ],
)
def test_what_changes_is_seen(change: dict[str, Any]) -> None:
    pytest.importorskip("PIL", reason="the extra `world` is not installed")
    assert (render_frame(replace(STILL, **change)) != render_frame(STILL)).any()


def test_without_pillow_a_frame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "PIL":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="make install EXTRAS=world"):
        render_frame(STILL)


def swiping_env(mode: str | None = "ansi") -> SwipeEnv:
    return SwipeEnv(preset=rapid(), render_mode=mode)


def test_rendering_follows_the_user_and_changes_nothing() -> None:
    env, plain = swiping_env(), swiping_env(None)
    observation, _ = env.reset(seed=5)
    plain.reset(seed=5)
    watched_s, cards, visit = 0.0, 0, 1
    for _ in range(40):
        before = env.render()
        assert isinstance(before, str)
        assert plain.render() is None
        assert isinstance(observation, dict)
        action = int(observation["mask"].argmax())
        observation, _, terminated, truncated, info = env.step(action)
        twin, *_ = plain.step(action)
        assert isinstance(twin, dict)
        assert isinstance(observation, dict)
        np.testing.assert_array_equal(observation["user"], twin["user"])
        watched_s, cards = watched_s + info["watch_s"], cards + 1
        told = str(env.render())
        assert f", visit {visit}: user 5 (" in told
        assert f" {cards} card" in told
        assert ("left" in told) == info["session_end"]
        if info["session_end"]:
            watched_s, cards, visit = 0.0, 0, visit + 1
        if terminated or truncated:
            break
    env.reset()
    assert "opened the app" in str(env.render())


def test_an_image_of_the_environment_has_its_size() -> None:
    pytest.importorskip("PIL", reason="the extra `world` is not installed")
    env = swiping_env("rgb_array")
    env.reset(seed=1)
    env.step(0)
    frame = env.render()
    assert frame.shape == (HEIGHT, WIDTH, 3)


def test_rendering_refuses_what_it_cannot_show() -> None:
    with pytest.raises(ValueError, match="expected a render_mode of ansi, rgb_array, got 'human'"):
        swiping_env("human")
    with pytest.raises(RuntimeError, match=r"expected reset\(\)"):
        swiping_env().render()
    crowd = SwipeVectorEnv(2, preset=rapid())
    with pytest.raises(ValueError, match="a feed of one user, got 2"):
        Film(crowd.swiping, crowd.cast)


def test_every_card_of_a_page_is_on_the_film() -> None:
    env = SwipeEnv(preset=rapid(), render_mode="ansi", actions="page")
    env.reset(seed=3)
    _, _, _, _, info = env.step(np.arange(6))
    assert f" {info['n_cards']} card" in str(env.render())


def test_a_story_has_the_visits_that_the_environment_had() -> None:
    told = tell(rapid(), "myopic", 11, 7)
    env = SwipeVectorEnv(1, preset=rapid(), horizon_days=7)
    choose = chooser("myopic", 11)
    observation, _ = env.reset(seed=11)
    watched_s, lengths, n_cards, is_over, stays = 0.0, [], 0, False, True
    while not is_over:
        observation, _, terminated, truncated, info = env.step(choose(observation))
        watched_s, n_cards = watched_s + float(info["watch_s"][0]), n_cards + 1
        if info["session_end"][0]:
            lengths.append(n_cards)
            n_cards = 0
        is_over, stays = bool(terminated[0] or truncated[0]), not terminated[0]
    assert [len(visit.swipes) for visit in told.visits] == lengths
    assert [len(visit.satisfaction) for visit in told.visits] == lengths
    assert abs(told.watched_s - watched_s) < 1e-9
    assert told.stays == stays


def test_sparing_bait_and_repeats_leaves_users_more_content() -> None:
    myopic, mixed = (average(rapid(), policy, 0, 7, 400) for policy in ("myopic", "mixed"))
    gain = mixed.outcomes[2] - myopic.outcomes[2]
    assert gain.mean() > 4.0 * gain.std() / np.sqrt(len(gain))
    assert mixed.card_s < myopic.card_s


def test_the_most_average_user_is_nearest_to_all_means() -> None:
    one = average(rapid(), "myopic", 0, 7, 50)
    user = most_average([one])
    distance = np.abs(one.outcomes - one.outcomes.mean(axis=1, keepdims=True))
    assert (distance[:, user] < one.outcomes.std(axis=1)).all()


def test_a_story_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `world` is not installed")
    policies: tuple[ChooserName, ...] = ("myopic", "mixed")
    stories = [tell(rapid(), policy, 11, 7) for policy in policies]
    averages = [average(rapid(), policy, 0, 7, 20) for policy in policies]
    for name in ("a.png", "b.png"):
        draw_story(tmp_path / name, stories, averages, title="Two weeks", source="a test")
    drawn = (tmp_path / "a.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert drawn == (tmp_path / "b.png").read_bytes()


def test_a_policy_never_takes_what_is_masked_and_knows_its_costs() -> None:
    mask = np.array([[0, 1, 1]], dtype=np.int8)
    personal: Float32s = np.zeros((1, 3, 4), dtype=np.float32)
    items: Float32s = np.zeros((1, 3, 24), dtype=np.float32)
    personal[0, :, 3] = 0.9, 0.6, 0.5
    items[0, 1, -1] = 0.5
    observation = {"mask": mask, "personal": personal, "item": items}
    assert chooser("myopic", 0)(observation).tolist() == [1]
    assert chooser("mixed", 0)(observation).tolist() == [2]
    assert chooser("myopic", 0, 2)(observation).tolist() == [[1, 2]]
    assert {int(chooser("uniform", seed)(observation)[0]) for seed in range(20)} == {1, 2}
    with pytest.raises(ValueError, match="expected a policy of uniform, myopic, mixed"):
        chooser("best", 0)  # type: ignore[arg-type]
