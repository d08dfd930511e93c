import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.privacy.events import Types


@pytest.mark.parametrize(
    "type_",
    [
        *("HEARTBEAT", "PLAY", "SEEK", "SEEK_SEGMENT", "FOOTPRINT", "VIEWS", "SHOW_ANNOTATIONS", "NORMAL_STARTUP"),
        *("SET_VOLUME-30", "RESIZE_TO-1280x720", "RESIZE-TO-640x480", "SEARCH_AJAX_FAILED", "paella:ended"),
    ],
)
def test_types_of_the_players_stay(type_):
    assert Types().of(type_) == type_


@pytest.mark.parametrize(
    ("type_", "kept"),
    [
        ("SEARCH-jane doe", "SEARCH"),
        ("SEARCH-12345678", "SEARCH"),  # perhaps a student's number
        ("SEARCH", "SEARCH"),
        ('paella:search;{"text":"jane"}', "paella:search"),
        ("PLAY-jane", "PLAY"),
        ("SET_VOLUME-30 jane", "SET_VOLUME-30"),
        ("PLAYJANE", None),
        ("jane doe", None),
        ("", None),
    ],
)
def test_free_text_is_left_out(type_, kept):
    assert Types().of(type_) == kept


def test_a_site_can_allow_more():
    types = Types(["QUIZ", "NOTE*", "SEARCH*"])
    assert [types.of(type_) for type_ in ("QUIZ-a", "NOTE-b c", "SEARCH-d", "OTHER")] == [
        "QUIZ",
        "NOTE-b c",
        "SEARCH-d",
        None,
    ]


@given(st.text())
def test_leaving_it_out_twice_changes_nothing(type_):
    types = Types(["A.B", "C*"])
    once = types.of(type_)
    assert once is None or types.of(once) == once
