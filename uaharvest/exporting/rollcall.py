"""The roll of a course: who takes part and how, from Banner or from a file. Names are never stored."""

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from uaharvest.answers import is_busy
from uaharvest.coerce import many, text
from uaharvest.documents.episode_part import taken_apart
from uaharvest.errors import BadInputError, BlockedError, SourceError
from uaharvest.readers import base_url
from uaharvest.retries import Retries
from uaharvest.transport import Upstream

COLUMNS = ("series", "huid", "status", "first_name", "mi", "last_name", "reg_level")
_PEOPLE = "__get_course_people.php"
_TIMEOUT = (5.0, 30.0)  # seconds to connect, and for an answer
_PAUSE = 1.0  # seconds between two courses, as the old tool did
_RETRIES = Retries(attempts=4, first=2.0, within=120.0)
_PERSON = ("huid", "status", "first_name", "mi", "last_name", "reg_level")

CoursePerson = dict[str, str]


class Banner:
    """The lists of participants at a URL, as Harvard DCE has them.

    Args:
        url: The folder of `__get_course_people.php`, with a slash at its end or without.
        pause: Sleeps for the given number of seconds.

    Raises:
        BadInputError: It is not an http(s) URL.
    """

    def __init__(self, url: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        try:
            self._shown = base_url(url).rstrip("/")
        except ValueError:
            raise BadInputError(
                "--banner: Expected an http(s) URL without user and password, such as https://banner.example.edu/api/."
            ) from None
        self._url = f"{self._shown}/{_PEOPLE}"
        self._upstream = Upstream("Banner", host="--banner", login="its address", timeout=_TIMEOUT)
        self._pause = pause

    def people(self, series: Iterable[str]) -> Iterator[CoursePerson]:
        """Yield everybody of these series, in any group.

        Raises:
            SourceError: Banner fails or cannot be reached.
            BlockedError: It refuses, or its answer has an unexpected form.
        """
        for number, one in enumerate(series):
            parts = taken_apart(one)
            if parts["cdn"] is None:
                continue  # not a course of Banner's
            if number:
                self._pause(_PAUSE)
            query = {"fmt": "json", "term": f"{parts['year']}{parts['term']}", "crn": parts["cdn"]}
            answer = _RETRIES.call(partial(self._ask, query), pause=self._pause)
            groups = answer.get("people")
            listed = groups.values() if isinstance(groups, dict) else many(groups)
            for person in (person for group in listed for person in many(group)):
                if isinstance(person, dict):
                    # Banner writes {} for no middle initial.
                    yield {"series": one, **{name: text(person.get(name)) or "" for name in _PERSON}}

    def _ask(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        response = self._upstream.fetch(self._url, shown=self._shown, params=query)
        status = response.status_code
        if is_busy(status):
            raise SourceError(f"Banner at {self._shown} answered {status}.")
        if status != HTTPStatus.OK:
            raise BlockedError(f"Banner at {self._shown} answered {status}. Check --banner.")
        try:
            answer = response.json()
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise BlockedError(f"Banner at {self._shown} did not answer with a JSON object. Check --banner.")
        return answer


def people_of(path: Path, chosen: Callable[[str], bool]) -> Iterator[CoursePerson]:
    """Yield the people of a CSV file with a header, those of the chosen series.

    It needs the columns series and huid. Others of COLUMNS are taken, and the rest is ignored.

    Raises:
        BadInputError: The file cannot be read, or it lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
            missing = [name for name in ("series", "huid") if name not in names]
            if missing:
                raise BadInputError(
                    f"{path}: there is no column {' and no column '.join(missing)}. Expected a header with series, huid"
                    " and, if known, status, first_name, mi, last_name, reg_level."
                )
            for row in reader:
                person = {name: (row.get(names.get(name, name)) or "").strip() for name in COLUMNS}
                if person["huid"] and chosen(person["series"]):
                    yield person
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}. Expected a CSV file.") from None
    except (UnicodeDecodeError, csv.Error):
        raise BadInputError(f"{path}: it is not CSV in UTF-8.") from None
