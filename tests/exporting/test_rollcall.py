"""The roll of a course, from Banner and from a file."""

import pytest
import responses

from uaharvest.errors import BadInputError, BlockedError, SourceError
from uaharvest.exporting import rollcall
from uaharvest.exporting.rollcall import Banner, people_of

SERIES = "20260310002"
URL = "https://banner.example.edu/api/__get_course_people.php"


@pytest.fixture
def banner():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def person(huid, **changes):
    known = {"status": "Registered", "first_name": "A", "mi": "B", "last_name": "C", "reg_level": "U"}
    return {"huid": huid, **known, **changes}


def people(series=(SERIES,), url="https://banner.example.edu/api", pauses=None):
    return list(Banner(url, pause=[].append if pauses is None else pauses.append).people(series))


def test_everybody_of_every_group_is_in_it(banner):
    groups = {"students": [person("1"), person("2", mi={})], "staff": person("3", secret="x"), "none": ""}
    banner.get(URL, json={"people": groups})
    found = people()
    assert found[0] == {"series": SERIES, **person("1")}
    assert [(one["huid"], one["mi"]) for one in found] == [("1", "B"), ("2", ""), ("3", "B")]
    assert "secret" not in found[2]
    query = dict(pair.split("=") for pair in banner.calls[0].request.url.partition("?")[2].split("&"))
    assert query == {"fmt": "json", "term": "202603", "crn": "10002"}


def test_a_course_without_people_is_empty_and_a_series_of_another_kind_is_left_out(banner):
    banner.get(URL, json={"error": "no such course"})
    pauses = []
    assert people((SERIES, "5d1f-uuid", "20260310003"), pauses=pauses) == []
    assert len(banner.calls) == 2
    assert pauses == [1.0]


def test_a_busy_banner_is_asked_again(banner):
    banner.get(URL, status=503)
    banner.get(URL, json={"people": [person("1")]})
    assert [one["huid"] for one in people()] == ["1"]


def test_a_banner_that_stays_down_is_an_error(banner):
    banner.get(URL, status=500)
    with pytest.raises(SourceError, match=r"Banner at https://banner\.example\.edu/api answered 500"):
        people()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"status": 403}, "answered 403. Check --banner."),
        ({"body": "<html>"}, "did not answer with a JSON object"),
        ({"json": [1]}, "did not answer with a JSON object"),
    ],
)
def test_what_a_person_must_change_is_named(banner, answer, text):
    banner.get(URL, **answer)
    with pytest.raises(BlockedError, match=text):
        people()


@pytest.mark.parametrize("url", ["ftp://x", "", "http://", "https://user:secret@banner.example.edu/"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(BadInputError, match="--banner: Expected") as error:
        Banner(url)
    assert "secret" not in str(error.value)


# Files


@pytest.fixture
def roster(tmp_path):
    def roster(text, encoding="utf-8"):
        path = tmp_path / "roster.csv"
        path.write_bytes(text.encode(encoding))
        return list(people_of(path, {SERIES}.__contains__))

    return roster


def test_a_file_gives_what_it_knows_of_the_chosen_series(roster):
    found = roster(
        "\ufeffSeries,HUID,last_name,other\n"
        f"{SERIES}, 1 ,Müller,x\n{SERIES},,nobody,x\nanother,2,x,x\n{SERIES},3\n"
    )
    assert [(one["series"], one["huid"], one["last_name"]) for one in found] == [
        *((SERIES, "1", "Müller"), (SERIES, "3", "")),
    ]
    assert found[0].keys() == set(rollcall.COLUMNS)


def test_a_file_without_a_needed_column_is_refused(roster):
    with pytest.raises(BadInputError, match=r"roster\.csv: there is no column huid"):
        roster("series,id\n")
    with pytest.raises(BadInputError, match="no column series and no column huid"):
        roster("")


def test_a_file_that_cannot_be_read_is_refused(roster, tmp_path):
    with pytest.raises(BadInputError, match="No such file"):
        list(people_of(tmp_path / "none.csv", lambda _: True))
    with pytest.raises(BadInputError, match="not CSV in UTF-8"):
        roster("series,huid\nü,1\n", "latin-1")
