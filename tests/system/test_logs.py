"""What stands in the logs of a whole harvest, and what must not."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from devservers import stack
from uaharvest import assembly

DAY = (datetime.now(UTC) - timedelta(days=1)).date()
PATIENCE = 300  # seconds that a busy machine may take
PERSONAL = {
    "useractions": ("huid", "session_id", "ip"),
    "sessions": ("user_name", "email", "user_id", "ip_address", "participant_user_id", "id"),
    "meetings": ("topic",),
}
SECRETS = {
    "MATTERHORN_REST_PASS": "word-of-opencast",
    "ZOOM_SECRET": "word-of-zoom",
    "AWS_SECRET_ACCESS_KEY": "word-of-aws",
    "ALERT_WEBHOOK_URL": "http://127.0.0.1:1/word-of-webhook",
    "FLOWER_BASIC_AUTH": "operator:word-of-flower",
}


@pytest.mark.fault
def test_no_log_names_a_person_or_has_a_secret_at_any_level(start_site, tmp_path):
    account = ("--account-id", "account", "--client-id", "key", "--client-secret", SECRETS["ZOOM_SECRET"])
    with stack.zoom_simulator("--meetings", "4", "--date", f"{DAY}", *account) as zoom:
        site = start_site(
            *("--user", "harvester", "--password", SECRETS["MATTERHORN_REST_PASS"]),
            rows=300,
            settings={
                **SECRETS,
                "MATTERHORN_REST_USER": "harvester",
                "ZOOM_ACCOUNT_ID": "account",
                "ZOOM_KEY": "key",
                "ZOOM_API_URL": f"{zoom.url}/v2/",
                "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
                "ZOOM_AT": "00:00",
                "INDEXER": "true",
                "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
                "LOG_LEVEL": "debug",
                "HARVEST_EVERY_SECONDS": "2",
            },
        )
        admin = {"MATTERHORN_ADMIN_HOST": site.simulator.url}
        site.environment |= admin
        beat = site.add_beat(2)
        store = assembly.document_store(site.settings)

        def documents(family):
            return list(store.select(f"{family}*"))

        site.until(lambda: site.mark() and site.mark().at >= site.end, ticking=False, patience=PATIENCE)
        site.until(lambda: documents("meetings") and documents("sessions"), ticking=False, patience=PATIENCE)
        indexed = site.manage("--debug", "run", "index")
        site.until(lambda: len(documents("useractions")) >= 300, ticking=False, patience=PATIENCE)
        episodes = site.manage("--debug", "run", "episodes", "--source-index-pattern", "useractions-*")
        assert documents("episodes")
    logs = {
        "worker": site.workers[0].output,
        "beat": beat.output,
        "indexer": indexed.stdout + indexed.stderr,
        "episodes": episodes.stdout + episodes.stderr,
    }
    people = {
        str(value)
        for family, names in PERSONAL.items()
        for document in documents(family)
        for name in names
        if len(str(value := document.get(name) or "")) > 5  # a shorter one is in every text
    }
    assert len(people) > 100
    token = json.loads(site.redis.get(next(site.redis.scan_iter("uaharvest:zoom:*:token"))))
    secrets = {*(secret.rpartition("/")[2].rpartition(":")[2] for secret in SECRETS.values()), *token.values()}
    for where, text in logs.items():
        assert text, where
        found = {value for value in people | {str(secret) for secret in secrets} if value in text}
        assert not found, f"the log of {where} has {len(found)} of them"
    closed = [json.loads(line) for line in logs["worker"].splitlines() if '"run closed"' in line]
    assert {line["stream"] for line in closed} >= {"useractions", "zoom"}
    first = next(line for line in closed if line["sent"] and line["stream"] == "useractions")
    assert first["found"] == first["sent"] + first["repeated"] + first["dead_letters"]
    assert {"run", "task_id", "seconds", "outcome"} <= first.keys()
