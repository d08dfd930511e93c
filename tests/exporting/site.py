"""A site whose viewers are simulated: documents of their useractions and of the recordings, in SQLite."""

import datetime as dt
from random import Random

from simulators.opencast import viewers as sim
from uaharvest.documents.document import Document
from uaharvest.exporting.source import SiteDocuments
from uaharvest.sinks.sqlite import SqliteStore

DURATION = 3000
MONDAY = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
SERIES = "20260310002"
ANONYMOUS = ("anonymous", "public_user")
HOME = "http://engage.example.edu/"


def iso(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def useraction(number, at, kind, inpoint=0, outpoint=None, **changes):
    """A useraction's document; `at` is epoch seconds."""
    body = {
        "action_id": number,
        "@timestamp": iso(at),
        "mpid": "lecture",
        "session_id": "node01",
        "huid": "12345678",
        "action": {
            "type": kind,
            "inpoint": inpoint,
            "outpoint": inpoint if outpoint is None else outpoint,
            "length": 0,
            "is_playing": kind != "PAUSE",
        },
        "ip": "192.0.2.1",
        "is_live": 0,
        "episode": {"title": "Lecture 1", "duration": DURATION * 1000, "series": SERIES},
    }
    body.update(changes)
    day = dt.datetime.fromtimestamp(at, dt.UTC)
    return Document(f"useractions-{day:%Y.%m.%d}", str(number), body)


def of_rows(rows, **changes):
    """The documents of rows that a simulated player reported."""
    return [
        useraction(
            row.id,
            row.created_ms / 1000,
            row.type,
            row.inpoint,
            row.outpoint,
            mpid=row.mediapackage,
            session_id=row.session.id,
            huid=row.session.user,
            is_live=int(row.playing == 2),
            action={
                "type": row.type,
                "inpoint": row.inpoint,
                "outpoint": row.outpoint,
                "length": row.length,
                "is_playing": row.playing > 0,
            },
            **changes,
        )
        for row in rows
    ]


def watched(seed, players, *, each=4, recordings=("lecture",), begin=MONDAY):
    """Viewers of all these players, and the documents of what they report. Ids are theirs alone."""
    rng = Random(seed)
    viewers, documents = [], []
    for recording in recordings:
        for player in players:
            own = [
                sim.make_viewer(rng, recording, DURATION, begin.timestamp() + rng.uniform(0, 80_000), sim.Habits())
                for _ in range(each)
            ]
            found = of_rows(sim.report(own, sim.PLAYERS[player], rng))
            viewers += own
            documents += [
                useraction_with_id(document, len(documents) + number) for number, document in enumerate(found, 1)
            ]
    return viewers, documents


def useraction_with_id(document, number):
    return Document(document.index, str(number), {**document.body, "action_id": number})


def episode(mpid="lecture", **changes):
    body = {
        "mpid": mpid,
        "title": "Lecture 1",
        "duration": DURATION * 1000,
        "series": SERIES,
        "year": "2026",
        "term": "03",
        "course": "Course 2",
        "type": "L01",
        "start": "2026-11-23T09:00:00+00:00",
        "available": "2026-11-23T12:00:00+00:00",
    }
    return Document("episodes", mpid, {**body, **changes})


def viewing(mpid="lecture", viewer="12345678", **changes):
    """A document of `viewings`, as this stream writes it."""
    body = {
        "@timestamp": "2026-11-23T10:00:00+00:00",
        "mpid": mpid,
        "viewer": viewer,
        **({} if viewer.startswith("session:") else {"huid": viewer}),
        "series": SERIES,
        "title": "Lecture 1",
        "duration_s": float(DURATION),
        "evidence": ["heartbeat"],
        "seen_s": 1500.0,
        "coverage": 0.5,
        "watched_s": 1600.0,
        "again_s": 100.0,
        "furthest_s": 1500.0,
        "sittings": 2,
        "first": "2026-11-23T09:00:00+00:00",
        "last": "2026-11-23T10:00:00+00:00",
        "live_s": 0.0,
        "intervals": [[0.0, 1500.0]],
        "played": [[0.0, 1500.0, 1795424400.0, 1795425900.0]],
        "stays": [],
    }
    return Document("viewings", f"{mpid} {viewer}", {**body, **changes})


def recording(mpid="lecture", **changes):
    """A document of `recordings`, as this stream writes it."""
    body = {"mpid": mpid, "series": SERIES, "title": "Lecture 1", "duration_s": float(DURATION)}
    return Document("recordings", mpid, {**body, "viewers": 3, "mean_coverage": 0.5, **changes})


def session(id_, join, leave, **changes):
    """A document of Zoom's `sessions`; times are ISO 8601."""
    body = {"meeting": "abc/d==", "id": "u1", "user_name": "Zoe", "email": "zoe@example.edu"}
    body |= {"join_time": join, "leave_time": leave, "waiting_room": False, "breakout_room": False}
    return Document("sessions-2026.11.23", id_, {**body, **changes})


def source(folder, documents):
    """The documents as a source of exports."""
    store = SqliteStore(folder / "documents.db")
    list(store.write(documents))
    return SiteDocuments(store, None, ANONYMOUS)
