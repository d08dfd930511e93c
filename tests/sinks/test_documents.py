"""What both document stores have in common: the same tests run on Elasticsearch and on SQLite."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from uaharvest.documents.document import Document
from uaharvest.errors import BlockedError
from uaharvest.sinks import Receipt
from uaharvest.sinks.cluster.store import ClusterStore
from uaharvest.sinks.documents import Has, Mentions, Within, require_few
from uaharvest.sinks.sqlite import SqliteStore

DAY = "useractions-2026.11.20"
AT = "2026-11-20T10:00:00.000Z"


@pytest.fixture(params=[pytest.param("elasticsearch", marks=pytest.mark.elasticsearch), "sqlite"])
def store(request, tmp_path):
    if request.param == "sqlite":
        return SqliteStore(tmp_path / "documents.db")
    request.getfixturevalue("templates")
    return ClusterStore(request.getfixturevalue("cluster"))


@pytest.fixture
def settled(store, request):
    """Lets what was written be found by searches."""
    if isinstance(store, ClusterStore):
        return lambda: request.getfixturevalue("es").indices.refresh(index="_all")
    return lambda: None


def write(store, *documents):
    """Write and return what was confirmed, by index and id."""
    written = list(store.write(documents))
    assert not any(entry.refused for entry in written)
    return [(document.index, document.id) for entry in written for document in entry.confirmed]


def test_all_documents_are_confirmed_and_can_be_read_back(store):
    documents = [Document(DAY, str(number), {"action_id": number, "mpid": "ü\n"}) for number in range(2500)]
    assert sorted(write(store, *documents)) == sorted((DAY, str(number)) for number in range(2500))
    assert store.get(DAY, "2499") == {"action_id": 2499, "mpid": "ü\n"}


def test_no_documents_are_no_work(store):
    assert write(store) == []


def test_what_is_not_there_is_none_by_id_and_by_index(store):
    write(store, Document(DAY, "1", {"mpid": "a"}))
    assert store.get(DAY, "2") is None
    assert store.get("useractions-2026.11.21", "1") is None


def test_documents_are_selected_by_the_values_of_a_field(store, settled):
    write(
        store,
        *(
            Document(DAY, str(number), {"mpid": f"m{number % 3}", "episode": {"series": "s"}})
            for number in range(9)
        ),
        Document("useractions-2026.11.21", "9", {"mpid": "m1"}),
        Document("episodes", "m1", {"mpid": "m1"}),
    )
    settled()
    found = list(store.select("useractions-*", Has("mpid", {"m1", "m2", "none"})))
    assert sorted(document["_id"] for document in found) == ["1", "2", "4", "5", "7", "8", "9"]
    assert {"_index": "useractions-2026.11.21", "_id": "9", "mpid": "m1"} in found
    assert len(list(store.select(DAY, Has("episode.series", ["s"])))) == 9
    assert list(store.select(DAY, Has("mpid", []))) == []
    assert list(store.select("meetings-*", Has("mpid", ["m1"]))) == []


def test_of_many_documents_those_that_exist_are_returned(store):
    write(store, *(Document(DAY, str(number), {"action_id": number, "mpid": "ü"}) for number in range(1500)))
    keys = [(DAY, str(number)) for number in range(2500)]
    found = store.get_many([*keys, ("useractions-2026.11.21", "1"), ("episodes", 'a"b')])
    assert found == {key: {"action_id": number, "mpid": "ü"} for number, key in enumerate(keys[:1500])}
    assert store.get_many([]) == {}


def test_a_repeat_replaces_the_whole_document(store):
    write(store, Document(DAY, "1", {"mpid": "a", "huid": "h"}))
    assert write(store, Document(DAY, "1", {"mpid": "b"})) == [(DAY, "1")]
    assert store.get(DAY, "1") == {"mpid": "b"}


def test_version_zero_yields_to_what_is_there(store):
    write(store, Document(DAY, "1", {"mpid": "a"}))
    assert write(store, Document(DAY, "1", {"mpid": "b"}, version=0)) == [(DAY, "1")]
    assert store.get(DAY, "1") == {"mpid": "a"}


def test_of_versions_the_highest_stays_and_a_lower_one_counts_as_confirmed(store):
    write(store, Document(DAY, "1", {"action": {"length": 20}}, version=20))
    assert write(store, Document(DAY, "1", {"action": {"length": 10}}, version=10)) == [(DAY, "1")]
    assert store.get(DAY, "1") == {"action": {"length": 20}}
    write(store, Document(DAY, "1", {"action": {"length": 30}}, version=30))
    assert store.get(DAY, "1") == {"action": {"length": 30}}


def test_the_same_version_again_replaces(store):
    write(store, Document(DAY, "1", {"mpid": "a"}, version=0))
    write(store, Document(DAY, "1", {"mpid": "b"}, version=0))
    assert store.get(DAY, "1") == {"mpid": "b"}


def test_within_one_write_the_highest_version_stays_whatever_the_order(store):
    versions = [3, 7, 5, 7, 1]
    write(store, *(Document(DAY, "1", {"action_id": number}, version=number) for number in versions))
    assert store.get(DAY, "1") == {"action_id": 7}


def test_a_document_without_a_version_has_the_next_one(store):
    write(store, Document(DAY, "1", {"mpid": "a"}, version=5), Document(DAY, "1", {"mpid": "b"}))
    write(store, Document(DAY, "1", {"mpid": "late"}, version=5))
    assert store.get(DAY, "1") == {"mpid": "b"}
    write(store, Document(DAY, "1", {"mpid": "c"}, version=6))
    assert store.get(DAY, "1") == {"mpid": "c"}


def test_an_update_keeps_what_it_does_not_say(store):
    write(store, Document("episodes", "m", {"title": "t", "live_start": "2026-11-19T16:00:00+00:00"}, update=True))
    write(store, Document("episodes", "m", {"title": "new"}, update=True))
    assert store.get("episodes", "m") == {"title": "new", "live_start": "2026-11-19T16:00:00+00:00"}


def test_an_update_merges_objects_replaces_lists_and_takes_null(store):
    first = {"extra": {"a": 1, "b": {"c": 2}}, "slides": [{"img": "1"}, {"img": "2"}], "crn": "1"}
    write(store, Document("episodes", "m", first, update=True))
    second = {"extra": {"b": {"d": 3}}, "slides": [{"img": "3"}], "crn": None}
    write(store, Document("episodes", "m", second, update=True))
    expected = {"extra": {"a": 1, "b": {"c": 2, "d": 3}}, "slides": [{"img": "3"}], "crn": None}
    assert store.get("episodes", "m") == expected


def test_an_update_has_no_version():
    with pytest.raises(ValueError, match="no external version with an update"):
        Document("episodes", "m", {}, version=1, update=True)


def test_indices_are_counted_by_name(store, settled):
    assert store.indices() == {}
    write(store, *(Document(DAY, str(number), {}) for number in range(3)), Document("episodes", "m", {}))
    settled()
    assert list(store.indices().items()) == [("episodes", 1), (DAY, 3)]


def test_export_gives_every_document_of_the_matching_indices_index_by_index(store, settled):
    days = ["useractions-a-2026.11.20", "useractions-a-2026.11.21", "useractions-b-2026.11.20"]
    write(
        store, *(Document(day, str(number), {"action_id": number}) for number in range(1200) for day in days[::-1])
    )
    settled()
    exported = list(store.select("useractions-a-*,useractions-c*"))
    assert [document["_index"] for document in exported] == [days[0]] * 1200 + [days[1]] * 1200
    assert {document["_id"] for document in exported} == {str(number) for number in range(1200)}
    assert all(document == {**document, "action_id": int(document["_id"])} for document in exported)
    assert list(store.select("sessions-*")) == []


def test_an_export_may_be_left_half_way(store, settled):
    write(store, *(Document(DAY, str(number), {}) for number in range(3)))
    settled()
    export = store.select(DAY)
    next(export)
    export.close()


def distinct(store, pattern, field):
    return sorted(value for (value,), _, _ in store.groups(pattern, [field]) if value is not None)


def test_groups_have_every_value_of_a_field_once(store, settled):
    documents = [
        Document(f"useractions-2026.11.{20 + number % 2}", str(number), {"mpid": f"m{number % 1100}"})
        for number in range(2200)
    ]
    documents.append(Document(DAY, "none", {"huid": None}))
    documents.append(Document(DAY, "nested", {"episode": {"series": "20260210038"}}))
    write(store, *documents)
    settled()
    assert distinct(store, "useractions-*", "mpid") == sorted(f"m{number}" for number in range(1100))
    assert distinct(store, "useractions-*", "episode.series") == ["20260210038"]
    assert distinct(store, "useractions-2026.11.20", "huid") == []
    assert distinct(store, "useractions-1999*", "mpid") == []


def test_a_lone_surrogate_harms_nobody(store):
    documents = [Document(DAY, "1", {"action": {"type": "a\ud800b"}}), Document(DAY, "2", {"mpid": "a"})]
    assert len(write(store, *documents)) == 2
    assert store.get(DAY, "2") == {"mpid": "a"}


@pytest.mark.parametrize(
    ("refused", "total", "blocks"), [(3, 3, False), (4, 4, True), (5, 100, False), (6, 100, True)]
)
def test_more_than_a_few_and_more_than_5_percent_refused_block(refused, total, blocks):
    entries = [(Document(DAY, str(number), {}), "400 no number") for number in range(refused)]
    if not blocks:
        require_few(entries, total, "it")
        return
    with pytest.raises(BlockedError, match=f"it refuses {refused} of {total} documents.*400 no number.*mapping"):
        require_few(entries, total, "it")


def test_documents_show_no_content_in_their_repr():
    document = Document(DAY, "1", {"huid": "60002627"})
    assert "60002627" not in repr(document)
    assert "60002627" not in repr(Receipt(confirmed=[document]))


def ids(store, index, where=None):
    found = list(store.select(index, where, fields=()))
    assert all(document.keys() == {"_index", "_id"} for document in found)
    return [document["_id"] for document in found]


def test_ids_are_those_of_one_index_and_of_a_half_open_interval(store, settled):
    begin = datetime(2026, 11, 20, 7, tzinfo=UTC)
    hour = Within("@timestamp", begin, begin + timedelta(hours=1))
    instants = {"1": "06:59:59.999", "2": "07:00:00.000", "3": "07:59:59.999", "4": "08:00:00.000"}
    write(
        store,
        *(Document(DAY, name, {"@timestamp": f"2026-11-20T{at}Z"}) for name, at in instants.items()),
        Document("useractions-2026.11.21", "5", {"@timestamp": "2026-11-20T07:30:00.000Z"}),
    )
    settled()
    assert sorted(ids(store, DAY)) == ["1", "2", "3", "4"]
    assert sorted(ids(store, DAY, hour)) == ["2", "3"]
    assert ids(store, "useractions-1999.01.01", hour) == []


def test_more_ids_than_a_page_are_each_returned_once(store, settled):
    write(store, *(Document(DAY, str(number), {"action_id": number}) for number in range(10_050)))
    settled()
    found = ids(store, DAY)
    assert len(found) == 10_050
    assert len(set(found)) == 10_050


def tally(store, index, field):
    return {value: count for (value,), count, _ in store.groups(index, [field]) if value is not None}


def test_groups_count_the_documents_by_the_value_of_a_field(store, settled):
    index = "sessions-2026.11.20"
    write(store, *(Document(index, str(number), {"meeting": f"m{number % 3}"}) for number in range(7)))
    write(store, Document(index, "none", {"user_name": "Kim"}))
    settled()
    assert tally(store, index, "meeting") == {"m0": 3, "m1": 2, "m2": 2}
    assert tally(store, "sessions-1999.01.01", "meeting") == {}


def mentioning(store, pattern, fields, *values):
    """Return what holds a value, as a caller would use it: the store may yield others too."""
    wanted = {value.lower() for value in values}

    def member(document, path):
        for name in path.split("."):
            document = (document or {}).get(name)
        return str(document).lower()

    found = store.select(pattern, Mentions(fields, values))
    return sorted(one["_id"] for one in found if {member(one, path) for path in fields} & wanted)


def test_documents_are_found_by_the_values_of_fields_as_soon_as_they_are_written(store):
    write(
        store,
        Document(DAY, "1", {"huid": "ann", "mpid": "a"}),
        Document(DAY, "2", {"huid": "anna", "mpid": "ann"}),
        Document("useractions-2026.11.21", "3", {"huid": "ann", "session_id": "%_!"}),
        Document("meetings-2026.11.21", "4", {"uuid": "u", "host": {"email": "Ann@Example.edu"}}),
    )
    assert mentioning(store, "useractions-*", ["huid"], "ann", "bob") == ["1", "3"]
    assert mentioning(store, DAY, ["huid", "session_id"], "ann") == ["1"]
    assert mentioning(store, "useractions-*", ["session_id"], "%_!") == ["3"]
    assert mentioning(store, "meetings*", ["host.email", "host.host_id"], "ann@example.edu") == ["4"]
    assert (
        mentioning(store, "useractions-*", ["huid"], "nobody")
        == mentioning(store, "nothing*", ["huid"], "ann")
        == []
    )


def test_documents_are_deleted_by_index_and_id_and_those_that_were_there_are_counted(store, settled):
    write(store, *(Document(DAY, str(number), {"huid": "h"}) for number in range(7000)))
    keys = [(DAY, str(number)) for number in range(6000)]
    assert sum(store.delete([*keys, (DAY, "none"), ("useractions-2026.11.22", "1")])) == 6000
    assert sum(store.delete(keys)) == 0
    settled()
    assert store.indices()[DAY] == 1000
    assert list(store.delete([])) == []


def test_an_index_is_dropped_with_all_its_documents_and_again_without_harm(store, settled):
    write(store, *(Document(DAY, str(number), {}) for number in range(10)), Document("episodes", "1", {}))
    store.drop(DAY)
    store.drop(DAY)
    settled()
    assert dict(store.indices()) == {"episodes": 1}


def test_documents_before_an_instant_are_those_of_one_index(store, settled):
    times = {"1": "2026-11-19T23:59:59+00:00", "2": "2026-11-20T00:00:00+00:00", "3": "2026-11-20T00:00:00.000Z"}
    write(store, *(Document(DAY, id_, {"@timestamp": at}) for id_, at in times.items()), Document(DAY, "4", {}))
    write(store, Document("useractions-2026.11.21", "5", {"@timestamp": "2001-01-01T00:00:00+00:00"}))
    settled()
    older = Within("@timestamp", end=datetime(2026, 11, 20, tzinfo=UTC))
    assert ids(store, DAY, older) == ["1"]
    assert ids(store, "useractions-2026.11.22", older) == []


# What is derived from documents


def test_the_documents_with_a_value_are_selected_across_pages_and_days(store, settled):
    days = [f"useractions-2026.11.{day:02}" for day in (20, 21, 22)]
    documents = [
        Document(days[number % 2], str(number), {"mpid": f"m{number // 2 % 2}", "action_id": number, "huid": "h"})
        for number in range(20_100)
    ]
    write(store, *documents, Document(days[2], "1", {"mpid": "other"}), Document("episodes", "m1", {"mpid": "m1"}))
    settled()
    found = list(store.select("useractions*-*", Has("mpid", ["m1"]), ["action_id"]))
    assert sorted(document["action_id"] for document in found) == [n for n in range(20_100) if n // 2 % 2]
    assert len(list(store.select(days[0], Has("mpid", ["m1"]), ["action_id"]))) == 5025
    assert [*store.select("useractions*-*", Has("mpid", ["none"]), ["action_id"])] == []
    assert [*store.select("sessions-*", Has("mpid", ["m1"]), ["action_id"])] == []


def test_a_selection_ignores_what_is_written_meanwhile(store, settled):
    write(store, *(Document(DAY, str(number), {"mpid": "m", "action_id": number}) for number in range(6000)))
    settled()
    selection = store.select(DAY, Has("mpid", ["m"]), ["action_id"])
    first = next(selection)
    write(store, *(Document(DAY, str(number), {"mpid": "m", "action_id": number}) for number in range(9000)))
    settled()
    assert sorted(document["action_id"] for document in [first, *selection]) == list(range(6000))


def test_a_value_is_selected_as_a_whole_and_with_its_nested_fields(store, settled):
    action = {"type": "HEARTBEAT", "inpoint": 30}
    episode = {"title": "t", "duration": 1}
    write(store, Document(DAY, "1", {"mpid": 'a" OR *', "action": action, "episode": episode, "@timestamp": AT}))
    write(store, Document(DAY, "2", {"mpid": "a", "action": action}))
    settled()
    [found] = store.select(DAY, Has("mpid", ['a" OR *']), ["@timestamp", "action", "episode.title"])
    assert (found["@timestamp"], found["action"], found["episode"]["title"]) == (AT, action, "t")


def test_a_state_changes_with_whatever_is_written_about_its_value_and_with_nothing_else(store, settled):
    pattern = "useractions*-2026.11.20"

    def states():
        settled()
        return {value: state for (value,), _, state in store.groups(pattern, ["mpid"]) if value is not None}

    def changed(*documents):
        before = states()
        write(store, *documents)
        after = states()
        assert after == states()
        return {value for value in before.keys() | after.keys() if before.get(value) != after.get(value)}

    assert states() == {}
    assert changed(*(Document(DAY, str(n), {"mpid": f"m{n % 2}", "v": 1}) for n in range(6))) == {"m0", "m1"}
    assert changed(Document(DAY, "7", {"mpid": "m1"})) == {"m1"}
    assert changed(Document(DAY, "0", {"mpid": "m0", "v": 2})) == {"m0"}
    assert changed(Document(DAY, "8", {"mpid": "m1", "v": 1}, version=10)) == {"m1"}
    assert changed(Document(DAY, "8", {"mpid": "m1", "v": 2}, version=20)) == {"m1"}
    assert changed(Document(DAY, "8", {"mpid": "m1", "v": 1}, version=10)) == set()
    assert changed(Document("useractions-2026.11.21", "9", {"mpid": "m0"})) == set()
    assert changed(Document(DAY, "10", {"huid": "h"})) == set()
    assert changed(Document("useractions-site-2026.11.20", "1", {"mpid": "m0"})) == {"m0"}


def test_groups_are_those_of_the_selected_documents(store, settled):
    rows = [("m", "1", "iOS"), ("m", "1", "iOS"), ("m", "1", "Windows"), ("m", None, "iOS"), ("x", "2", "iOS")]
    documents = [
        Document(
            f"useractions-2026.11.{20 + n % 2}", f"{n}", {"mpid": mpid, "huid": huid, "ua": {"os_name": system}}
        )
        for n, (mpid, huid, system) in enumerate(rows)
    ]
    documents.append(Document(DAY, "none", {"mpid": "m"}))
    write(store, *documents)
    settled()
    found = Counter()
    for combination, count, _ in store.groups("useractions-*", ["huid", "ua.os_name"], Has("mpid", ["m"])):
        found[combination] += count
    assert found == {("1", "iOS"): 2, ("1", "Windows"): 1, (None, "iOS"): 1, (None, None): 1}
    assert list(store.groups("useractions-*", ["huid"], Has("mpid", ["nothing"]))) == []
    assert list(store.groups("useractions-1999*", ["huid"], Has("mpid", ["m"]))) == []


def test_more_groups_than_a_page_are_each_counted(store, settled):
    write(
        store,
        *(Document(DAY, str(n), {"mpid": "m", "huid": str(n), "session_id": str(n % 7)}) for n in range(2100)),
    )
    settled()
    groups = store.groups(DAY, ["huid", "session_id"], Has("mpid", ["m"]))
    found = {values: count for values, count, _ in groups}
    assert len(found) == 2100
    assert set(found.values()) == {1}
