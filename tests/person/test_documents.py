"""What was derived from a person's documents is made again from those of the others."""

import pytest

from tests.person.site import RECORDINGS, VIEWINGS
from tests.privacy import planted
from uaharvest.documents.document import Document
from uaharvest.errors import RetryableError
from uaharvest.person.documents import PersonDocuments
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.viewing.documents import recording_of


class Failing(SqliteStore):
    fails = True

    def delete(self, keys):
        if self.fails:
            raise RetryableError("it fails")
        return super().delete(keys)


def test_an_erasure_that_is_stopped_leaves_no_figures_of_the_person(tmp_path):
    store = Failing(tmp_path / "documents.db")
    documents = [*VIEWINGS, *(("recordings", mpid, fields) for mpid, fields in RECORDINGS.items())]
    documents += [(f"{index}-site", id_, fields) for index, id_, fields in documents]
    list(store.write(Document(*one) for one in documents))
    person = PersonDocuments(store, None, [planted.LOGIN, planted.SESSION])
    with pytest.raises(RetryableError):
        list(person.erase(list(person.found())))
    assert store.get("recordings", "lecture")["viewers"] == 1
    found = list(person.found())
    assert len(found) == 6  # so that the next erasure goes on
    store.fails = False
    list(person.erase(found))
    assert list(person.found()) == []
    [other] = [fields for _, id_, fields in VIEWINGS if id_ == "v3"]
    for index in ("recordings", "recordings-site"):
        assert store.get(index, "lecture") == recording_of(RECORDINGS["lecture"], [other]).fields
        assert store.get(index, "another") == RECORDINGS["another"]
        assert store.get(index, "own") is None
