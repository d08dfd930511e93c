"""The episodes of the simulated campus: regular ones, and every kind of missing data that a harvester may meet."""

from dataclasses import dataclass
from random import Random
from typing import Literal
from uuid import UUID

from simulators.opencast.profiles import Json, Profile, guess, present, through_gson, wrapped
from simulators.opencast.zones import Zone, utc_text

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_ENGAGE = "https://engage.example.edu/static"
_NAMES = ("Ada Example", "Ben Sample", "Chris Muster", "Dana Probe")


@dataclass(frozen=True, slots=True)
class Episode:
    """A lecture. Times are epoch ms; values that are None are missing at the source."""

    number: int
    id: str
    state: Literal["published", "deleted", "gone"]  # deleted: hidden; gone: never in the search index
    title: str | None
    series: str | None
    series_title: str | None
    type: str | None
    description: str | None
    creator: str
    created_ms: int
    start_ms: int | None
    duration_ms: int | None
    live: bool  # on air: no duration yet, players report isPlaying 2
    public: bool  # readable without a login
    stills: int  # attachments: none, one or several


def make_episodes(seed: int, count: int, until_ms: int) -> list[Episode]:
    """Create `count` episodes in the 30 days before `until_ms`.

    An episode's number alone determines which data it lacks, so that even a few dozen episodes cover all cases.
    """
    rng = Random(f"episodes {seed}")
    return [_make_episode(rng, number, until_ms) for number in range(count)]


def _make_episode(rng: Random, number: int, until_ms: int) -> Episode:
    live = number % 12 == 5
    lecture_start_ms = (
        until_ms // HOUR_MS * HOUR_MS - HOUR_MS // 2
        if live
        else until_ms // DAY_MS * DAY_MS - rng.randint(1, 30) * DAY_MS + rng.randint(13, 20) * HOUR_MS
    )
    series, series_title = _series(rng, number)
    return Episode(
        number=number,
        id=random_uuid(rng),
        state="gone" if number % 40 == 19 else "deleted" if number % 20 == 7 else "published",
        title=None if number % 35 == 11 else "2014" if number % 50 == 2 else f"Lecture {number}",
        series=series,
        series_title=series_title,
        type=None if number % 9 == 6 else ("S02" if number % 5 == 4 else "L01"),
        description=None if number % 9 == 6 else f"About {number}",
        creator=_NAMES[number % len(_NAMES)],
        created_ms=lecture_start_ms,
        start_ms=None if number % 25 == 14 else lecture_start_ms,
        duration_ms=None if live else rng.choice((3_600_000, 5_400_000, 7_200_000)),
        live=live,
        public=number % 4 == 0,
        stills={1: 0, 4: 1}.get(number % 8, 3),
    )


def _series(rng: Random, number: int) -> tuple[str | None, str | None]:
    if number % 12 == 9:
        return None, None
    course = number // 4
    if number % 12 == 3:
        return random_uuid(rng), f"Workshop {course}"
    return f"2026{course % 3 + 1:02d}{10_000 + course}", f"Course {course}"


def random_uuid(rng: Random) -> str:
    """Return a UUID determined by the seed."""
    return str(UUID(int=rng.getrandbits(128), version=4))


def media_package(episode: Episode, profile: Profile) -> dict[str, Json]:
    """Return the media package as written by JAXB and Jettison: attributes first, then typed elements."""
    return present(
        {
            "id": profile.attribute(episode.id),
            "duration": None if episode.duration_ms is None else profile.attribute(str(episode.duration_ms)),
            "start": None if episode.start_ms is None else utc_text(episode.start_ms),
            "title": _typed(episode.title),
            "series": _typed(episode.series),
            "seriestitle": _typed(episode.series_title),
            "creators": {"creator": episode.creator},
            "media": wrapped("track", _tracks(episode)),
            "metadata": "",
            "attachments": wrapped("attachment", _attachments(episode)),
            "publications": "",
        }
    )


def old_result(episode: Episode, profile: Profile, zone: Zone) -> dict[str, Json]:
    """Return a search result of Opencast 15 and older (Solr)."""
    return present(
        {
            "id": profile.attribute(episode.id),
            "org": "mh_default_org",
            "mediapackage": media_package(episode, profile),
            "dcExtent": episode.duration_ms,
            "dcTitle": _typed(episode.title),
            "dcCreator": episode.creator,
            "dcDescription": _typed(episode.description),
            "dcCreated": zone.text(episode.created_ms),
            "dcIsPartOf": _typed(episode.series),
            "dcType": _typed(episode.type),
            "mediaType": "AudioVisual",
            "keywords": "",
            "modified": zone.text(episode.created_ms + 2 * HOUR_MS),
            "score": 1,
        }
    )


def new_result(episode: Episode, profile: Profile) -> dict[str, Json]:
    """Return a search result of Opencast 16 and newer (OpenSearch, through Gson)."""
    terms = {
        "identifier": episode.id,
        "title": episode.title,
        "creator": episode.creator,
        "created": utc_text(episode.created_ms),
        "isPartOf": episode.series,
        "type": episode.type,
        "description": episode.description,
        "extent": None if episode.duration_ms is None else f"PT{episode.duration_ms // 1000}S",
    }
    return {
        "mediapackage": through_gson(media_package(episode, profile)),
        "org": "mh_default_org",
        "modified": utc_text(episode.created_ms + 2 * HOUR_MS),
        "type": "Episode",
        "acl": [{"action": "read", "role": "ROLE_ADMIN", "allow": True}],
        "dc": {term: [value] for term, value in terms.items() if value is not None},
    }


def _typed(text: str | None) -> Json:
    return None if text is None else guess(text)


def _tracks(episode: Episode) -> list[Json]:
    if episode.live:
        return []
    return [
        {
            "id": "t1",
            "type": "presenter/delivery",
            "mimetype": "video/mp4",
            "tags": {"tag": "engage-download"},
            "url": f"{_ENGAGE}/{episode.id}/t1.mp4",
            "checksum": {"type": "md5", "$": "d41d8cd98f00b204e9800998ecf8427e"},
            "duration": episode.duration_ms,
        }
    ]


def _attachments(episode: Episode) -> list[Json]:
    still: Json = {
        "id": "a1",
        "type": "presenter/player+preview",
        "mimetype": "image/jpeg",
        "tags": "",
        "url": f"{_ENGAGE}/{episode.id}/p.jpg",
    }
    slides: list[Json] = [
        {
            "id": f"a{number}",
            "type": "presentation/segment+preview",
            "ref": f"track:t1;time={at}",
            "mimetype": "image/jpeg",
            "tags": "",
            "url": f"{_ENGAGE}/{episode.id}/s{number - 1}.jpg",
        }
        for number, at in ((2, "T00:01:02:0F1000"), (3, "T00:05:00:0F1000"))
    ]
    return [still, *slides][: episode.stills]
