"""A harvest, `manage.py metrics` and a real Prometheus: each query of the dashboard, and each metric of the alerts, has
data.
"""

import json
import math
import re
import shutil
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import requests

from devservers import stack
from monitoring import grafana
from uaharvest import assembly
from uaharvest.audit.day import Counts, DayAudit
from uaharvest.audit.results import Results
from uaharvest.intervals import Interval, whole_second
from uaharvest.metrics import METRICS
from uaharvest.runs.backfills import Backfill, utc_now
from uaharvest.runs.ledger import Run

PATIENCE = 120
CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{alerts}]
scrape_configs:
  - job_name: uaharvest
    scrape_interval: 6s
    scrape_timeout: 6s
    static_configs: [targets: ["127.0.0.1:{port}"]]
"""


def test_the_dashboard_is_what_its_description_makes(pytestconfig):
    if pytestconfig.getoption("--renew-docs"):
        grafana.FILE.write_text(grafana.text())
    assert grafana.FILE.read_text() == grafana.text(), "`python -m monitoring` writes it"


def test_the_queries_of_a_panel_have_names_of_their_own_and_one_data_source():
    for panel in json.loads(grafana.FILE.read_text())["panels"]:
        names = [target["refId"] for target in panel.get("targets", [])]
        assert names == list("ABC"[: len(names)])
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"


def queries():
    """Return the queries of the dashboard, as Grafana sends them, by panel."""
    found = {}
    for panel in json.loads(grafana.FILE.read_text())["panels"]:
        for target in panel.get("targets", []):
            found.setdefault(panel["title"], []).append(target["expr"].replace("$__rate_interval", "2m"))
    return found


def serve_metrics(environment):
    def build(port):
        return stack.Child(
            "metrics",
            [sys.executable, str(stack.ROOT / "manage.py"), "metrics"],
            stack.says(r"metrics on http://"),
            environment={**environment, "METRICS_PORT": str(port), "PYTHONUNBUFFERED": "1"},
            port=port,
            url=f"http://127.0.0.1:{port}/metrics",
        )

    return stack.on_port(build, None)


def prometheus(directory, target):
    alerts = stack.ROOT / "monitoring/alerts.yml"
    (directory / "prometheus.yml").write_text(CONFIGURATION.format(alerts=alerts, port=target.port))

    def ready(child):
        try:
            return requests.get(f"{child.url}/-/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    def build(port):
        options = {
            "config.file": directory / "prometheus.yml",
            "storage.tsdb.path": directory / "tsdb",
            "web.listen-address": f"127.0.0.1:{port}",
        }
        command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
        return stack.Child("Prometheus", command, ready, port=port, url=f"http://127.0.0.1:{port}")

    return stack.on_port(build, None)


def open_run_that_nobody_works_at(site):
    """Open one of a stream for which the test sends no ticks."""
    end = whole_second(datetime.now(UTC))
    window = Interval(end - timedelta(days=1), end)
    run = Run(
        id="5eed" * 8,
        stream="zoom",
        kind="explicit",
        requested=window,
        window=window,
        etag=None,
        epoch="epoch",
        known_from=None,
        batch_size=100,
        wait=0,
        opened_at=datetime.now(UTC),
    )
    assembly.ledger(site.settings, site.redis, stream="zoom").open(run, ["a meeting"])


def backfill_and_audit_that_nobody_works_at(site):
    asked = Interval(site.end - timedelta(days=9), site.end - timedelta(days=8))
    one = Backfill.new(asked, to="queue", rate=1, now=utc_now(), expected=1000)
    assembly.backfills(site.settings, "useractions").add(one)
    with closing(assembly.redis_client(site.settings)) as client:
        results = Results(client, assembly.place(site.settings, "useractions"))
        results.put(DayAudit("useractions", asked.start.date(), datetime.now(UTC), {"useractions": Counts()}))


@pytest.mark.fault
@pytest.mark.skipif(not shutil.which("prometheus"), reason="Debian's package prometheus is not installed")
def test_each_query_of_the_dashboard_returns_data_of_a_small_harvest(start_site, tmp_path):
    site = start_site(
        "--live-rate",
        "5",  # rates need counters that grow, and these are written at the end of slices
        rows=500,
        settings={
            "AUDIT_AT": "06:00",
            "INDEXER": "true",
            "DOCUMENTS_URL": f"sqlite:///{tmp_path}/documents.db",
            "ZOOM_KEY": "a-client-id",
            "ZOOM_SECRET": "a-client-secret",
        },
    )
    with serve_metrics(site.environment) as metrics, prometheus(tmp_path, metrics) as server:

        def ask(query):
            answer = requests.get(f"{server.url}/api/v1/query", params={"query": query}, timeout=30).json()
            assert answer["status"] == "success", f"{query}: {answer}"
            return [result for result in answer["data"]["result"] if not math.isnan(float(result["value"][1]))]

        site.harvest(site.end)
        assert site.manage("run", "index").returncode == 0
        site.until(lambda: ask("uaharvest_upstream_request_duration_seconds_count"), ticking=False)
        open_run_that_nobody_works_at(site)
        backfill_and_audit_that_nobody_works_at(site)

        expressions = [rule["query"] for rule in rules(server)]
        for expression in expressions:
            ask(expression)  # which fails if it is none
        wanted = {query for some in queries().values() for query in some} | metrics_of(expressions)
        assert len(wanted) > 40
        end = time.monotonic() + PATIENCE
        while lacking := {query for query in wanted if not ask(query)}:
            assert time.monotonic() < end, lacking
            site.look_once_more()
            assert site.manage("run", "index").returncode == 0
        delivered = ask('uaharvest_records_delivered_total{stream="useractions"}')
        assert float(delivered[0]["value"][1]) >= 500
        assert {
            result["metric"]["upstream"] for result in ask("uaharvest_upstream_request_duration_seconds_sum")
        } >= {
            "opencast",
            "sqs",
            "s3",
        }
        content = requests.get(metrics.url, timeout=30).text
        assert_whole_and_discreet(content, site)
        assert [rule for rule in rules(server) if rule["health"] != "ok"] == []


def metrics_of(expressions):
    """Return a query for each metric that is used, and for the labels by which it is chosen, whatever their values.

    The values are those of faults; tests/monitoring raises each alert.
    """
    chosen = [one for text in expressions for one in re.findall(r"\buaharvest_\w+(?:{[^}]*})?", text)]
    return {re.sub(r'!?="[^"]*"', '!=""', one) for one in chosen}


def rules(server):
    groups = requests.get(f"{server.url}/api/v1/rules", timeout=30).json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def assert_whole_and_discreet(content, site):
    found = set(re.findall(r"^# TYPE (\w+)", content, re.MULTILINE))
    assert found == METRICS.keys() - {"uaharvest_sqs_oldest_message_seconds"}  # this stand-in has no CloudWatch
    secrets = [site.environment[name] for name in ("ZOOM_KEY", "ZOOM_SECRET")]
    assert not [secret for secret in secrets if secret in content]
