"""One person in the document store."""

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from uaharvest.documents import meeting, session
from uaharvest.documents.document import Document
from uaharvest.errors import HarvestError
from uaharvest.privacy.people import (
    HOST_IDS,
    HOST_NAMES,
    IDS,
    NAME,
    NAMES,
    Form,
    hosts_in,
    ids_in,
    is_about,
    without_host,
)
from uaharvest.sinks.documents import DocumentKey, DocumentStore, Has, Mentions
from uaharvest.viewing.documents import COUNTED, recording_of

ABOUT: tuple[Form, ...] = ("useractions", "sessions", "viewings", "attendance")  # they are deleted
HOSTED: tuple[Form, ...] = ("meetings", "attendance")  # others are in them too, so only their host is removed
# There may be a million of them.
_NEEDED = {form: {*IDS.get(form, ()), *NAMES.get(form, ()), "mpid", "meeting"} for form in ABOUT}
RECORDINGS: Form = "recordings"  # names nobody, but counts everybody
HOST = "host of "  # marks the counts of these


class Found(NamedTuple):
    """A document that is about the person, or names them as the host of a meeting.

    Attributes:
        store: Where it is counted: its family, after HOST if the person is the host.
        key: Its index and id.
        fields: Its fields. Of those about the person, only what an erasure needs, unless all were requested.
    """

    store: str
    key: DocumentKey
    fields: Mapping[str, Any]

    @property
    def form(self) -> Form:
        """Return what it is."""
        name = self.store.removeprefix(HOST)
        return next(form for form in get_args(Form) if form == name)


class PersonDocuments:
    """The documents of a site, as far as they are about one person.

    Args:
        store: Has them.
        infix: INDEX_INFIX. Without one, useractions may be in indices with an infix that only Logstash knows.
        ids: All ids of the person, as `people.forms` returns them.
    """

    def __init__(self, store: DocumentStore, infix: str | None, ids: Collection[str]) -> None:
        self._store = store
        self._infix = infix
        self._ids = frozenset(ids)

    def found(self, *, whole: bool = False) -> Iterator[Found]:
        """Yield all that is there, those about the person first; with all their fields if `whole` says so."""
        for form in ABOUT:
            for document in self._holding(form, (*IDS.get(form, ()), *NAMES.get(form, ()))):
                if any(id_ in self._ids for _, id_ in ids_in(form, document)):
                    yield _found(form, document, None if whole else _NEEDED[form])
        for form in HOSTED:
            for document in self._holding(form, (*HOST_IDS.get(form, ()), *HOST_NAMES.get(form, ()))):
                is_own = form in ABOUT and any(id_ in self._ids for _, id_ in ids_in(form, document))
                if not is_own and any(id_ in self._ids for _, id_ in hosts_in(form, document)):
                    yield _found(HOST + form, document)

    def linked(self, found: Iterable[Found]) -> "collections.Counter[tuple[str, str]]":
        """Count the other ids and names in these documents, by field and value: perhaps the person's too."""
        links: collections.Counter[tuple[str, str]] = collections.Counter()
        for one in found:
            pairs = hosts_in(one.form, one.fields) if one.store.startswith(HOST) else ids_in(one.form, one.fields)
            links.update((f"{one.form} {field}", id_) for field, id_ in pairs if id_ not in self._ids)
        return links

    def erase(self, found: Iterable[Found]) -> Iterator[tuple[str, int]]:
        """Delete or change these documents, and what follows from them; yield each store with how many are done."""
        by_store: dict[str, list[Found]] = {}
        for one in found:
            by_store.setdefault(one.store, []).append(one)
        for store, ones in by_store.items():
            if store.startswith(HOST):
                yield store, self._without_host(ones)
                continue
            if store == "sessions":
                for deleted in self._without_sessions(ones):
                    yield store, deleted
                continue
            if store == "viewings":
                yield RECORDINGS, self._without_viewings(ones)
            for deleted in self._store.delete(one.key for one in ones):
                yield store, deleted

    def _without_host(self, ones: Iterable[Found]) -> int:
        """Write documents without their host, as they are now: they may have changed since they were found."""
        forms = {one.key: one.form for one in ones}
        current = self._store.get_many(forms.keys())
        documents = [
            Document(*key, kept)
            for key, fields in current.items()
            if (kept := without_host(self._ids.__contains__, forms[key], fields)) is not None
        ]
        return self._write(documents)

    def _without_sessions(self, ones: Iterable[Found]) -> Iterator[int]:
        """Delete sessions, meeting by meeting, after the meeting's figures were made from those of the others.

        In this order, because the next look finds sessions that were left, but not figures.
        """
        erased: dict[DocumentKey, list[str]] = {}
        for one in ones:
            index, id_ = one.key
            erased.setdefault((index, str(one.fields.get("meeting"))), []).append(id_)
        for (index, uuid), ids in erased.items():
            key = ("meetings" + index.removeprefix("sessions"), uuid)
            if known := self._store.get(*key):
                rest = [
                    document
                    for document in self._store.select(index, Mentions(["meeting"], [uuid]))
                    if document.get("meeting") == uuid and document["_id"] not in ids
                ]
                figures: dict[str, Any] = dict(meeting.attendance(session.stored(rest)))
                figures["erased_sessions"] = known.get("erased_sessions", 0) + len(ids)
                self._write([Document(*key, figures, update=True)])
            yield from self._store.delete((index, id_) for id_ in ids)

    def _without_viewings(self, ones: Iterable[Found]) -> int:
        """Make the documents of recordings again from the viewings of the others; return how many those are.

        Do so before the viewings are deleted, because the next look finds viewings that were left, but not figures.
        """
        keys = {
            (RECORDINGS + one.key[0].removeprefix("viewings"), str(one.fields.get("mpid"))): one.key[0]
            for one in ones
        }
        formers = self._store.get_many(keys)
        for key, former in formers.items():
            found = self._store.select(keys[key], Has("mpid", [key[1]]), COUNTED)
            others = (one for one in found if not is_about(self._ids.__contains__, "viewings", one))
            made = recording_of(former, others)
            if made is None:
                for _ in self._store.delete([key]):
                    pass
            else:
                self._write([Document(*key, made.fields)])
        return len(formers)

    def _write(self, documents: Iterable[Document]) -> int:
        written = 0
        for receipt in self._store.write(documents):
            written += len(receipt.confirmed)
            if receipt.refused:
                document, reason = receipt.refused[0]
                raise HarvestError(f"a document of {document.index} without the person is refused: {reason}")
        return written

    def _holding(self, form: Form, fields: Collection[str]) -> Iterator[dict[str, Any]]:
        if indices := self._indices(form):
            values = {id_.removeprefix(NAME) for id_ in self._ids} | self._ids
            yield from self._store.select(",".join(indices), Mentions(list(fields), sorted(values)))

    def _indices(self, form: Form) -> list[str]:
        return list(
            self._store.matching(f"{form}-{self._infix},{form}-{self._infix}-*" if self._infix else f"{form}*")
        )


def _found(store: str, document: Mapping[str, Any], needed: Collection[str] | None = None) -> Found:
    fields = {
        name: value
        for name, value in document.items()
        if name not in {"_index", "_id"} and (needed is None or name in needed)
    }
    return Found(store, (document["_index"], document["_id"]), fields)
