"""A person who occurs nowhere else goes through real processes; no byte of any store or log names them."""

import contextlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
import requests
from requests.auth import HTTPDigestAuth

from devservers import cluster, databases, stack
from tests.privacy import planted
from tests.privacy.planted import found
from tests.system.test_database import FORCED
from tests.system.test_metrics import serve_metrics
from uaharvest import assembly, index_templates
from uaharvest.privacy.site import protection
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import connection

DAY = (datetime.now(UTC) - timedelta(days=1)).date()
PATIENCE = 300  # seconds that a busy machine may take
ACCOUNT = ("--account-id", "account", "--client-id", "key", "--client-secret", "word-of-zoom")
KEYS = "k2:a-secret-of-sixteen-or-more,k1:an-older-secret-of-sixteen"
ROWS = 3  # of the planted person
PLACES = planted.EVERYTHING


def meet(zoom):
    """Let the planted person be at a meeting, twice with details and once with nothing but a name."""
    one = {
        "id": planted.ZOOM_ID,
        "participant_user_id": planted.ZOOM_ID,
        "registrant_id": planted.ZOOM_ID,
        "user_name": planted.NAME,
        "email": planted.EMAIL,
        "ip_address": planted.ADDRESS,
        "leave_reason": f"{planted.NAME} left the meeting.",
    }
    named = {"user_name": planted.NAME, "user_id": "", "participant_uuid": ""}
    members = {"start": f"{DAY}T10:00:00Z", "people": 3, "sessions": [one, {**one, "user_id": "5"}, named]}
    requests.post(f"{zoom.url}/_sim/meetings", json=members, timeout=30).raise_for_status()
    # Too long for an id, so its row is a dead letter.
    members["uuid"] = "u" * 600
    requests.post(f"{zoom.url}/_sim/meetings", json=members, timeout=30).raise_for_status()


def watch(site):
    """Let the planted person watch; the episode of one row cannot be looked up."""
    at = site.end.timestamp() - 60
    row = {
        "user": planted.LOGIN,
        "session": planted.SESSION,
        "ip": f"{planted.ADDRESS}, {planted.PROXY}",
        "agent": planted.AGENT,
    }
    types = ("PLAY", f"SEARCH-{planted.TERM}", "FOOTPRINT")
    rows = [
        {**row, "created": at + number, "type": type_, "inpoint": 0, "outpoint": 30}
        for number, type_ in enumerate(types)
    ]
    refused = {**row, "created": at + 10, "type": "PLAY", "mediapackage": "refused"}
    site.simulate("faults", {"path": "search", "kind": "status", "status": 403, "id": "refused"})
    site.simulate("rows", {"rows": [*rows, refused]})


def disturb(site):
    """Put messages into the queue that become dead letters of the indexer: one that is no JSON, one without an id."""
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=site.environment["SQS_QUEUE_NAME"])["QueueUrl"]
    record = {"huid": planted.LOGIN, "ip": planted.ADDRESS, "timestamp": "2026-11-17T10:00:00+00:00"}
    for body in (json.dumps(record)[:-1], json.dumps(record)):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    sqs.close()


def objects(site):
    """Everything in the bucket."""
    s3 = boto3.client("s3")
    bucket = site.environment["S3_HARVEST_TS_BUCKET"]
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    whole = b"\n".join(s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed)
    s3.close()
    return whole


def dump(site):
    """The file of Redis, uncompressed."""
    site.redis.config_set("rdbcompression", "no")
    site.redis.save()
    return b"".join(
        path.read_bytes() for path in Path(site.redis.config_get("dir")["dir"]).rglob("*") if path.is_file()
    )


def rows(site):
    """Return all rows of Opencast, as it tells them."""
    answer = requests.get(
        f"{site.simulator.url}/usertracking/actions.json",
        params={"limit": 10**6},
        auth=HTTPDigestAuth("admin", "opencast"),
        headers=FORCED,
        timeout=60,
    )
    return answer.json()["actions"]["action"]


@contextlib.contextmanager
def flower(site):
    """Run Flower, which keeps what it sees in a file; its folder is searched with all others'."""
    port = stack.free_port()
    login = "operator:secret-word"
    options = (f"--address={stack.HOST}", f"--port={port}")
    with stack.celery(
        "flower", *options, environment={**site.environment, "FLOWER_BASIC_AUTH": login}, port=port
    ) as server:
        yield server, tuple(login.split(":"))


def pages(server, login):
    """Return all that Flower shows."""
    tasks = requests.get(f"{server.url}/api/tasks", auth=login, timeout=60)
    names = [*tasks.json()][:20]
    paths = ["", "workers?refresh=1", "tasks", "broker", *(f"task/{name}" for name in names), "metrics"]
    shown = [requests.get(f"{server.url}/{path}", auth=login, timeout=60).text for path in paths]
    table = {
        "draw": 1,
        "start": 0,
        "length": 100,
        "search[value]": "",
        "order[0][column]": 0,
        "order[0][dir]": "asc",
    }
    table |= {"columns[0][data]": "name"}
    shown.append(requests.post(f"{server.url}/tasks/datatable", data=table, auth=login, timeout=60).text)
    assert names
    return "\n".join([tasks.text, *shown])


def folders(*children):
    """Everything in the folders of processes: their logs and what they store."""
    return b"\n".join(
        path.read_bytes() for child in children for path in child.directory.rglob("*") if path.is_file()
    )


def killed(site, *arguments):
    """Run a command and kill it once it has begun; return what it has said."""
    command = [sys.executable, str(stack.ROOT / "manage.py"), "--debug", *arguments]
    with stack.Child(
        "command", command, lambda child: bool(child.output), environment=site.environment, deadline=PATIENCE
    ) as child:
        child.start()
        child.kill()
        return child.output


def import_file(folder):
    """A file of useractions: one that is no JSON, one without an id, and others that are well."""
    record = {"huid": planted.LOGIN, "ip": planted.ADDRESS, "timestamp": "2026-11-17T10:00:00+00:00", "mpid": "m"}
    path = folder / "old.jsonl"
    good, bad = (json.dumps({**record, "action_id": number}) for number in (77_000_000, "none"))
    path.write_text("\n".join([*[good] * 60, bad, json.dumps(record)[:-1]]))
    return path


def commands(site, folder):
    """Return what commands say at level debug, and what they write."""
    roster = folder / "roster.csv"
    roster.write_text("huid,email,first_name,last_name\nnobody,nobody@example.edu,No,Body\n")
    said = [
        site.manage("--debug", *words)
        for words in (
            *(("status",), ("status", "--json"), ("doctor",), ("doctor", "--json"), ("run", "index")),
            *(
                ("dead-letters", "list"),
                ("dead-letters", "replay", "--all"),
                ("documents", "list"),
                ("retention", "--dry-run"),
            ),
            *(("documents", "export", f"{family}*") for family in ("useractions", "sessions", "meetings")),
            *(
                ("person", "find", planted.LOGIN),
                ("person", "export", "--output", folder / "person.zip", planted.EMAIL),
            ),
            *(
                ("export", name, "--series", "any")
                for name in ("attendance", "viewing-options", "episode-metrics")
            ),
            ("export", "xapi", "--output", folder / "xapi.jsonl"),
            ("report", "course", "any", "--roster", roster, "--pseudonyms", "--output", folder / "report"),
            ("import", "useractions", import_file(folder.parent)),
            ("person", "erase", "--dry-run", planted.ZOOM_ID),
        )
    ]
    said += [site.manage("--debug", "dead-letters", "show", name) for name in site.dead_letters.names()]
    return [f"{one.args}\n{one.stdout}{one.stderr}" for one in said]


def harvest(start_site, folder, store_settings, *arguments, tables=None, restart=lambda: None):
    """Harvest everything, through the death of each component; return the site and what there is outside of the store.

    Args:
        folder: An empty folder for files.
        store_settings: Settings.
        arguments: Of the Opencast simulator.
        tables: A database that Opencast's rows are copied to and harvested from.
        restart: Kills the document store and starts it again.
    """
    log = folder / "files"
    log.mkdir()
    with contextlib.ExitStack() as stack_:
        zoom = stack_.enter_context(stack.zoom_simulator("--meetings", "2", "--date", f"{DAY}", *ACCOUNT))
        meet(zoom)
        site = start_site(
            *arguments,
            rows=100,
            workers=0,
            valkey=stack_.enter_context(stack.valkey(appendonly=True)),
            settings={
                "ZOOM_ACCOUNT_ID": "account",
                "ZOOM_KEY": "key",
                "ZOOM_SECRET": "word-of-zoom",
                "ZOOM_API_URL": f"{zoom.url}/v2/",
                "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
                "ZOOM_AT": "00:00",
                "LOG_LEVEL": "debug",
                "HARVEST_EVERY_SECONDS": "2",
                "HARVEST_ATTEMPTS": "2",
                "PRIVACY_PSEUDONYMS": KEYS,
                "PRIVACY_ADDRESS": "truncated",
                "PRIVACY_AGENT": "family",
                "INDEXER": "true",
                "ACCESS_LOG_FILE": str(log / "access.log"),
                "ALERT_COMMAND": f"sh -c 'cat >> {log / 'alerts'}'",
                **store_settings,
            },
        )
        watch(site)
        if tables is not None:
            databases.insert(tables, rows(site))
        seen, login = stack_.enter_context(flower(site))
        processes = [site.add_worker(), site.add_beat(2)]

        def died(child, start):
            child.kill()
            processes.append(start())

        until = {"ticking": False, "patience": PATIENCE}
        site.until(site.ledger.live, **until)
        died(processes[0], site.add_worker)
        site.until(lambda: site.mark() and site.mark().at >= site.end, **until)
        died(processes[1], lambda: site.add_beat(2))
        disturb(site)
        said = [
            killed(site, "run", "index"),
            killed(site, "run", "zoom"),
            killed(site, "documents", "export", "*"),
        ]
        site.kill_pool_process(site.workers[-1])
        site.valkey.kill()
        restart()
        site.valkey.start()
        store = assembly.document_store(site.settings)
        site.until(lambda: any(one.startswith("index/") for one in site.dead_letters.names()), **until)
        site.until(lambda: list(store.select("sessions*")), **until)
        shown = pages(seen, login)
        said += commands(site, log)
        with serve_metrics(site.environment) as metrics:
            shown += requests.get(metrics.url, timeout=60).text
            said.append(metrics.output)
        seen.stop()
        for process in processes:
            process.kill()
        places = {
            "S3": objects(site),
            "Redis": dump(site) + folders(site.valkey),
            "Flower": folders(seen) + shown.encode(),
            "processes": folders(*processes),
            "files": b"\n".join(path.read_bytes() for path in sorted(log.rglob("*")) if path.is_file()),
            **{f"command {number}": text for number, text in enumerate(said)},
        }
    return site, places


def of_person(store, site):
    """The planted person's documents, found by their pseudonyms."""
    person = protection(site.settings).id
    actions = [one for one in store.select("useractions*") if one.get("huid") == person(planted.LOGIN)]
    sessions = [one for one in store.select("sessions*") if one.get("email") == person(planted.EMAIL)]
    return actions, sessions


def require_unseen(site, places):
    """Search everything but the document store."""
    for place, content in places.items():
        # A command's line names whom it is about.
        first, _, rest = content.partition("\n") if isinstance(content, str) else ("", "", content)
        assert content, place
        assert found(rest if "manage.py" in first else content, PLACES) == [], (place, first[:200])
    kinds = {name.partition("-")[0] for name in site.dead_letters.names()}
    assert kinds >= {"useractions/record", "index/message", "index/record", "import/record", "zoom/record"}


def require_protected(site, folder):
    actions, sessions = of_person(assembly.document_store(site.settings), site)
    assert len([one for one in actions if one["action_id"] < 77_000_000]) == ROWS
    assert len(sessions) == 2
    files = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "old.jsonl")
    assert actions[0]["huid"].encode() in files  # the search finds what is there
    assert found(files, PLACES) == []


@pytest.mark.fault
@pytest.mark.long
def test_sqlite_s3_redis_flower_and_logs_hold_nothing_of_the_planted_person(start_site, tmp_path):
    settings = {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}"}
    site, places = harvest(start_site, tmp_path, settings)
    require_protected(site, tmp_path)
    require_unseen(site, places)


@pytest.mark.fault
@pytest.mark.long
def test_nor_does_anything_if_opencast_is_a_stock_one(start_site, tmp_path):
    settings = {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}"}
    site, places = harvest(start_site, tmp_path, settings, "--profile", "stock", "--order", "mariadb")
    require_protected(site, tmp_path)
    require_unseen(site, places)


@pytest.mark.fault
@pytest.mark.long
def test_nor_does_anything_if_its_database_is_read(start_site, database, tables, tmp_path):
    settings = {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}", "OPENCAST_DATABASE_URL": database.url}
    site, places = harvest(start_site, tmp_path, settings, "--order", "created", tables=tables)
    require_protected(site, tmp_path)
    require_unseen(site, places)


@pytest.mark.fault
@pytest.mark.long
def test_elasticsearch_holds_nothing_of_the_planted_person(start_site, elasticsearch_server, tmp_path):
    with cluster.serve(*elasticsearch_server) as server:

        def restart():
            server.kill()
            server.start()

        index_templates.load(connection.connect(Settings(es_url=f"{server.url}/")))
        site, places = harvest(start_site, tmp_path, {"ES_HOST": server.url}, restart=restart)
        store = assembly.document_store(site.settings)
        requests.post(f"{server.url}/_refresh", timeout=60).raise_for_status()
        actions, sessions = of_person(store, site)
        assert (len(actions), len(sessions)) == (ROWS + 1, 2)
        text = json.dumps([list(store.select(f"{family}*")) for family in ("useractions", "sessions", "meetings")])
        assert actions[0]["huid"] in text
        assert found(text, PLACES) == []
        for order in ("_forcemerge?max_num_segments=1", "_flush?force=true"):
            requests.post(f"{server.url}/{order}", timeout=120).raise_for_status()
        folder = subprocess.run(
            ["find", str(server.directory), "-type", "f"], check=True, capture_output=True, text=True
        ).stdout.split()
        files = [Path(name) for name in folder if "/data/" in name]
        assert len(files) > 10
        assert [path for path in files if found(path.read_bytes(), PLACES)] == []
        require_unseen(site, places)
