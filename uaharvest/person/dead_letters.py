"""One person in the dead letters."""

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from uaharvest import replay
from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import indexed
from uaharvest.errors import HarvestError, PoisonError
from uaharvest.privacy.people import NAME, Form, ids_in, without_host

STORE = "dead letters"


class Mention(NamedTuple):
    """A dead letter that names the person.

    Attributes:
        letter: The letter.
        own: What is about the person; None: nobody can tell.
        rest: What it holds without the person; None: nothing, so that the letter is dropped.
        unclear: Why an operator must look at it; None: nobody need do so.
    """

    letter: DeadLetter
    own: Any
    rest: Mapping[str, Any] | None
    unclear: str | None = None


class PersonDeadLetters:
    """The dead letters of a site that name one person, by `ids` in the form that `people.forms` returns."""

    def __init__(self, dead_letters: DeadLetters, ids: Collection[str]) -> None:
        self._dead_letters = dead_letters
        self._ids = frozenset(ids)
        # An id within a longer word is another id.
        words = sorted((re.escape(json.dumps(id_.removeprefix(NAME))[1:-1]) for id_ in ids), key=len, reverse=True)
        self._words = re.compile(rf"(?<![\w.@-])(?:{'|'.join(words)})(?![\w@-])", re.IGNORECASE)

    def found(self) -> Iterator[Mention | HarvestError]:
        """Yield the dead letters that name the person, and why others cannot be read."""
        for _, letter in replay.read(self._dead_letters, self._dead_letters.names()):
            if isinstance(letter, HarvestError):
                yield letter
            elif (mention := self._mention(letter)) is not None:
                yield mention

    def erase(self, mention: Mention) -> None:
        """Drop the letter, or write it without the person."""
        if mention.rest is None:
            self._dead_letters.drop(mention.letter.name)
        else:
            self._dead_letters.put(dataclasses.replace(mention.letter, payload=mention.rest))

    def _mention(self, letter: DeadLetter) -> Mention | None:
        payload = letter.payload
        if not self._words.search(json.dumps(payload)):
            return None
        return self._row(letter) or self._others(letter)

    def _row(self, letter: DeadLetter) -> Mention | None:
        """Return what a dead letter of one row or record says about the person; None if it is about somebody else."""
        payload = letter.payload
        forms: tuple[tuple[str, Form], ...] = (("raw", "row of a useraction"), ("row", "sessions"))
        for name, form in forms:
            if isinstance(payload.get(name), Mapping) and self._is(form, payload[name]):
                return Mention(letter, payload[name], None)
        if "record" in payload and self._is_record(payload["record"]):
            return Mention(letter, payload["record"], None)
        return None

    def _others(self, letter: DeadLetter) -> Mention:
        """Return the mention in a letter that is about others too."""
        payload = letter.payload
        if letter.kind == "message" and isinstance(payload.get("body"), str):
            return self._message(letter, payload["body"])
        if isinstance(payload.get("document"), Mapping):
            return self._document(letter, payload["document"])
        if isinstance(payload.get("row"), Mapping):
            kept = without_host(self._ids.__contains__, "row of a meeting", payload["row"])
            if kept is not None:
                return Mention(letter, payload["row"], {**payload, "row": kept})
        why = "the id is in it, but not where it says whom it is about: look, then drop it"
        if payload.get("host") in self._ids:
            why = "it stands for all meetings of this host: replay it, which stores them without the host, or drop it"
        return Mention(letter, None, None, why)

    def _document(self, letter: DeadLetter, document: Mapping[str, Any]) -> Mention:
        body = document.get("body")
        body = body if isinstance(body, Mapping) else {}
        family = str(document.get("index")).partition("-")[0]
        if family == "sessions" and self._is("sessions", body):
            return Mention(letter, body, None)
        if family == "meetings" and (kept := without_host(self._ids.__contains__, "meetings", body)):
            return Mention(letter, body, {**letter.payload, "document": {**document, "body": kept}})
        return Mention(letter, None, None, "the id is in a document of others: look at it")

    def _message(self, letter: DeadLetter, body: str) -> Mention:
        try:
            records = indexed.records(body)
        except PoisonError:
            return Mention(letter, None, None, "the id is in a text that cannot be read: look at it, then drop it")
        kept = [record for record in records if not self._is_record(record)]
        if len(kept) == len(records):
            return Mention(letter, None, None, "the id is in it, but in no record of the person: look at it")
        own = [record for record in records if self._is_record(record)]
        return Mention(letter, own, {**letter.payload, "body": json.dumps(kept)} if kept else None)

    def _is_record(self, record: Any) -> bool:
        if not isinstance(record, Mapping):
            return False
        source = record.get("_source")
        return self._is("useractions", source if isinstance(source, Mapping) else record)

    def _is(self, form: Form, fields: Mapping[str, Any]) -> bool:
        return any(id_ in self._ids for _, id_ in ids_in(form, fields))
