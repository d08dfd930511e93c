"""A site with a planted person and others in every store: real S3, SQS and SQLite, and the streams in this process."""

import json
from datetime import date
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner

from tests.exporting import site as exporting
from tests.fakes import FakeReporter, at, span
from tests.fakes import World as ActionsWorld
from tests.privacy import planted
from uaharvest import assembly, settings, tombstones
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.dead_letters import DeadLetter
from uaharvest.documents.document import Document
from uaharvest.opencast.source import ActionsSource
from uaharvest.opencast.throttle import Throttle
from uaharvest.privacy.site import choice
from uaharvest.streams.time_slice import TimeSlice
from uaharvest.streams.useractions import Useractions
from uaharvest.streams.zoom.documents import MeetingDocuments
from uaharvest.streams.zoom.lists import MeetingLists
from uaharvest.viewing.documents import recording_of
from uaharvest.zoom.rows import read_meeting, read_participant

IDS = (planted.LOGIN, planted.EMAIL, planted.ZOOM_ID, planted.SESSION)
OTHER = {
    "id": "other",
    "participant_user_id": "other",
    "registrant_id": "",
    "participant_uuid": "other-uuid",
    "customer_key": "",
    "user_name": "Somebody Else",
    "email": "somebody@example.edu",
    "user_id": "16778241",
    "leave_reason": "",
}


def viewing(id_, mpid, viewer, huid=True):
    """Return a document of `viewings`, with its index and id."""
    own = exporting.viewing(mpid, viewer if huid else f"session:{viewer}").body
    return "viewings", id_, own | ({"huid": viewer} if huid else {})


VIEWINGS = [
    viewing("v1", "lecture", planted.LOGIN),
    viewing("v2", "lecture", planted.SESSION, huid=False),
    viewing("v3", "lecture", "somebody"),
    viewing("v4", "another", "somebody"),
    viewing("v5", "own", planted.LOGIN),
]
RECORDINGS = {
    mpid: recording_of(
        {"mpid": mpid, "title": f"About {mpid}", "duration_s": 3000.0},
        [fields for _, _, fields in VIEWINGS if fields["mpid"] == mpid],
    ).fields
    for mpid in ("lecture", "another", "own")
}
DERIVED = [
    *VIEWINGS,
    *(("recordings", mpid, fields) for mpid, fields in RECORDINGS.items()),
    ("attendance", "a1", {"uuid": "uuid==", "person": planted.ZOOM_ID, "user_email": planted.EMAIL}),
    ("attendance", "a2", {"uuid": "uuid==", "person": "other", "host_id": planted.ZOOM_ID, "minutes": 60}),
]


def action(number, **changes):
    """Return a row of `actions.json` of somebody else."""
    return planted.action(
        number, sessionId={"sessionId": f"s{number % 7}", "userId": "somebody"}, type="PLAY", **changes
    )


class Site:
    def __init__(self, environment, monkeypatch, client):
        self.environment = environment
        self.settings = settings.load(environment)
        self.store = assembly.document_store(self.settings)
        self.dead_letters = assembly.dead_letters(self.settings)
        self._patch = monkeypatch
        self._client = client
        self.path = Path(environment.get("DOCUMENTS_URL", "").removeprefix("sqlite:///"))

    def manage(self, *arguments, code=0, stdin=None):
        for name, value in self.environment.items():
            self._patch.setenv(name, value)
        settings.current.cache_clear()
        result = CliRunner().invoke(
            cli, arguments, input=stdin, obj=Context(lambda: pytest.fail("no worker is needed"))
        )
        assert result.exit_code == code, result.output
        return result.stdout, result.stderr

    def harvest(self, sink, *rows):
        """Deliver rows of `actions.json` to a sink, as a slice of a run that a person asked for."""
        world = ActionsWorld(self._client, batch_size=100)
        world.start_at(at(0))
        world.clock.now = at(180)
        world.opencast.told = lambda row: rows[row.id - 1]
        world.opencast.add(*(at(1) for _ in rows))
        source = ActionsSource(
            world.opencast, world.settings.opencast_zone, Throttle(self._client, world.opencast.base_url)
        )
        erased = tombstones.erased(self.settings)
        stream = Useractions(source, world.episodes, sink, self.dead_letters, self.settings, erased=erased)
        run = world.engine.ask(span(0, 100), world.options(), may_move=False)
        reporter = FakeReporter()
        reporter.watched = []
        reporter.watch = reporter.watched.extend
        stream.work(run, TimeSlice(span(0, 100)), reporter)
        return reporter

    def harvest_to_documents(self, *rows):
        return self.harvest(assembly.records_to_documents(self.settings), *rows)

    def harvest_to_queue(self, *rows):
        return self.harvest(assembly.sqs_sink(self.settings), *rows)

    def index(self):
        return assembly.indexer(self.settings).drain()

    def zoom(self):
        """Harvest two meetings: one that the person hosted, and one that they attended."""
        documents = MeetingDocuments(
            self.store,
            self.dead_letters,
            self.settings,
            client=self._client,
            place="zoom",
            locate=lambda _: None,
            erased=tombstones.erased(self.settings),
        )
        lists = MeetingLists(None, documents, client=self._client, place="zoom")
        others = {"host": "Host Of Others", "email": "host@example.edu", "host_id": "host", "topic": "Seminar"}
        others |= {"dept": "Physics", "tracking_fields": [], "custom_keys": [], "participants": 2}
        rows = [planted.meeting(), planted.meeting("other==", **others)]
        days = (date(2026, 11, 17), date(2026, 11, 17))
        for one in lists.take([read_meeting(row) for row in rows], "past", "dashboard", days, set()):
            people = [planted.participant(), planted.participant(**OTHER)]
            documents.write_sessions(one, [read_participant(row) for row in people])

    def derive(self):
        protected = choice(self.settings).pseudonyms

        def stored(name, value):
            if not protected or name not in {"viewer", "huid", "person", "user_email", "host_id"}:
                return value
            prefix = "session:" if value.startswith("session:") else ""
            return prefix + protected.of(value.removeprefix(prefix))

        documents = [
            Document(index, id_, {name: stored(name, value) for name, value in body.items()})
            for index, id_, body in DERIVED
        ]
        for _ in self.store.write(documents):
            pass

    def put(self, stream, number, payload, kind="record"):
        make = DeadLetter.of_record if kind == "record" else DeadLetter.of_message
        self.dead_letters.put(make(stream, f"{number}", "refused", payload))

    def everything(self):
        """Return all that is stored: the file of the documents, and all objects of the bucket."""
        s3 = boto3.client("s3")
        bucket = self.environment["S3_HARVEST_TS_BUCKET"]
        keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
        objects = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
        documents = [json.dumps(one).encode() for one in self.store.select("*")]
        files = [path.read_bytes() for path in self.path.parent.glob(f"{self.path.name}*")]
        return b"\n".join([*map(str.encode, keys), *objects, *documents, *files])
