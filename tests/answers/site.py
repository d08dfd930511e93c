"""A site whose upstreams stand behind proxies, harvested in this process."""

import collections
import contextlib
import json

import boto3
import redis

from uaharvest import assembly, settings, status
from uaharvest.errors import HarvestError
from uaharvest.keys import PREFIX
from uaharvest.replay import Replayer
from uaharvest.runs.local import LocalHints
from uaharvest.runs.watermark import first

ROUNDS = 40
# HARVEST_MAX_LAG_SECONDS, the most it may be: 31 years. Watermarks of a fixed day are in order, whatever the date.
NEVER_LATE = "999999999"


def opencast_environment(url):
    """Return the settings with which a simulated Opencast of Harvard's kind is harvested up to now."""
    return {
        "MATTERHORN_ENGAGE_HOST": url,
        "MATTERHORN_REST_USER": "admin",
        "MATTERHORN_REST_PASS": "opencast",
        "OPENCAST_PROFILE": "dce",
        "OPENCAST_TIMEZONE": "UTC",
        "HARVEST_LAG_SECONDS": "0",
        "HARVEST_MAX_LAG_SECONDS": NEVER_LATE,
        "HARVEST_MAX_WINDOW": "100000",
    }


def zoom_environment(url, folder):
    """Return the settings with which a simulated Zoom account is harvested, into an SQLite file in `folder`."""
    return {
        "ZOOM_ACCOUNT_ID": "account",
        "ZOOM_KEY": "key",
        "ZOOM_SECRET": "secret",
        "ZOOM_API_URL": f"{url}/v2/",
        "ZOOM_TOKEN_URL": f"{url}/oauth/token",
        "ZOOM_PLAN": "business",
        "ZOOM_AT": "00:00",
        "DOCUMENTS_URL": f"sqlite:///{folder / 'documents.db'}",
    }


class Workers:
    """What Celery would say of a site that is well."""

    def queues(self):
        return {}

    def alive(self, wait=None):
        return {"worker@here": ["control", "useractions", "episodes", "zoom", "index", "backfill"]}


class Site:
    """One stream, its ledger in a real Valkey, and what came of an attack.

    Attributes:
        proxies: By what stands behind them.
    """

    def __init__(self, stream, environment, client, patch):
        self.stream = stream
        self.redis = client
        self._patch = patch
        self.environment = environment
        self.settings = settings.load(environment)
        self.hints = LocalHints()
        self.engine = None
        self.failure = None

    def begin(self, start):
        """Forget everything, and let the watermark be `start`."""
        self.redis.flushall()
        self.hints.waiting.clear()
        self.engine = None
        s3 = boto3.client("s3", endpoint_url=self.environment["DIRECT_AWS"])
        for item in s3.list_objects_v2(Bucket=self.settings.bucket).get("Contents", ()):
            s3.delete_object(Bucket=self.settings.bucket, Key=item["Key"])
        if start is not None:
            key = assembly.watermark_key(self.settings, self.stream)
            s3.put_object(Bucket=self.settings.bucket, Key=key, Body=first(start).to_json().encode())
        s3.close()
        for stream in assembly.streams(self.settings):
            assembly.state(self.settings, self.redis, stream=stream).tick(0)

    def tick(self):
        """Do what one tick and the workers would do; what fails stands where it would."""
        self.time_passes()
        self._open()
        self._work()

    def _open(self):
        try:
            if self.engine is None:
                self.engine = assembly.engine(self.stream, self.settings, self.hints)
            self.engine.advance()
        except (HarvestError, redis.RedisError) as error:
            self._note("opening", error)

    def _work(self):
        worked = set()
        while self.hints.waiting:
            run_id, slice_id = self.hints.waiting.popleft()
            if (run_id, slice_id) in worked:  # what failed waits until the next tick
                continue
            worked.add((run_id, slice_id))
            try:
                self.engine.work(run_id, slice_id)
            except (HarvestError, redis.RedisError) as error:
                self._note("working", error)

    def _note(self, place, error):
        assembly.state(self.settings, self.redis, stream=self.stream).failed(place, error)

    def time_passes(self):
        """Let leases, back-offs, hints, locks and negative caches end."""
        for key in self.redis.scan_iter(f"{PREFIX}run:*:due"):
            # A worker may take a slice meanwhile, even the last: it stays taken.
            if due := self.redis.zrange(key, 0, -1):
                self.redis.zadd(key, dict.fromkeys(due, 0), xx=True)
        zoom = (
            f"{PREFIX}zoom:*:{name}*"
            for name in ("used", "queue", "spent", "hold", "places", "probe", "neutral", "lists")
        )
        episodes = (f"{PREFIX}episode:*:{name}:*" for name in ("failing", "lock"))
        locks = (f"{PREFIX}*:planning", f"{PREFIX}zoom:lists:*:held")
        for pattern in (f"{PREFIX}run:*:hinted", *locks, *episodes, *zoom):
            for key in self.redis.scan_iter(pattern):
                self.redis.unlink(key)

    def report(self):
        """Return status's report, and its exit code."""
        report = status.status(self.settings, Workers())
        return report, int(status.exit_code(report))

    def dead_letters(self):
        """Return the names of the dead letters."""
        return list(assembly.dead_letters(self.settings).names(self.stream))

    def received(self):
        """Take all out of the queue; return how often each id was there."""
        sqs = boto3.client("sqs", endpoint_url=self.environment["DIRECT_AWS"])
        url = sqs.get_queue_url(QueueName=self.settings.queue)["QueueUrl"]
        ids = collections.Counter()
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                ids[int(json.loads(message["Body"])["action_id"])] += 1
            entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        sqs.close()
        return ids

    def replay(self):
        """Replay all dead letters, as `manage.py dead-letters replay --all` does."""
        dead_letters, replayer = assembly.dead_letters(self.settings), Replayer(self.settings)
        for name in self.dead_letters():
            replayer.replay(dead_letters.get(name))
            dead_letters.drop(name)

    @property
    def mark(self):
        with contextlib.suppress(HarvestError):
            stored = assembly.watermarks(self.settings, self.stream).read()
            return stored.mark.at if stored else None

    def heals(self, until):
        """Tick until everything up to `until` is committed."""
        for _ in range(ROUNDS):
            self.tick()
            mark = self.mark
            if mark is not None and mark >= until:
                return True
        return False


class SteppedSite(Site):
    """A site that does something once it reaches a step.

    Attributes:
        at: What to do at the steps `opening` and `working`, once.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.at = {}

    def _open(self):
        self.at.pop("opening", lambda: None)()
        super()._open()

    def _work(self):
        self.at.pop("working", lambda: None)()
        super()._work()


def verdict(report, dead_letters):
    """Return which of the policy's verdicts a report shows: blocked, put off, dead letter, fine."""
    streams = list(report["streams"].values())
    if any(part["blocked"] for part in streams):
        return "blocked"
    if report["troubles"] and any(trouble["exit_code"] == 4 for trouble in report["troubles"]):
        return "put off"
    return "dead letter" if dead_letters else "fine"
