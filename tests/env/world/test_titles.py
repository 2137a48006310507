import msgspec

from env.items.content import duplicate_key, static_block
from env.world import generated
from env.world.titles import dressed, phrases

NOW_MS = 1_700_000_000_000
ITEMS = generated.catalogue(seed=1, n=2_000, now_ms=NOW_MS)
DRESSED = dressed(ITEMS)


def test_only_title_and_creator_are_put_on() -> None:
    for before, after in zip(ITEMS, DRESSED, strict=True):
        bare = msgspec.structs.replace(after, title=before.title, creator=before.creator)
        assert bare == before
        assert static_block(after).tobytes() == static_block(before).tobytes()


def test_equal_catalogues_have_equal_titles() -> None:
    assert dressed(ITEMS) == DRESSED


def test_no_two_items_share_a_title_and_no_two_creators_a_handle() -> None:
    assert len({item.title for item in DRESSED}) == len(DRESSED)
    assert len({duplicate_key(item) for item in DRESSED}) == len(DRESSED)
    handles = {
        (before.creator, after.creator) for before, after in zip(ITEMS, DRESSED, strict=True)
    }
    assert len(handles) == len(dict(handles)) == len({handle for _, handle in handles})


def test_a_title_is_about_its_topic_in_its_language() -> None:
    subjects = phrases().subjects
    for item in DRESSED:
        language = "en" if item.language == "zxx" else item.language
        title = item.title.casefold()
        assert any(subject.casefold() in title for subject in subjects[language][item.tags[0]])


def test_every_language_has_texts_for_every_topic_and_subtopic() -> None:
    spoken = {language for market in generated.MARKETS for language in market.languages}
    assert set(phrases().frames) == set(phrases().subjects) == spoken
    for language in spoken:
        assert set(phrases().frames[language]) == set(generated.SUBTOPICS)
        assert set(phrases().subjects[language]) == set(generated.TOPICS)
        frames = [frame for some in phrases().frames[language].values() for frame in some]
        assert all(frame.count("{}") == 1 for frame in frames)
    assert set(phrases().names) == {market.country for market in generated.MARKETS}
    assert set(phrases().handles) == set(generated.TOPICS)
