"""The alerts, by Debian's promtool: healthy is silent, and each fault raises what names it, and nothing else."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests.monitoring.reports import COUNTS, ROOT, healthy, samples, values
from uaharvest.metrics import METRICS

ALERTS = ROOT / "monitoring/alerts.yml"
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
MINUTES = 90

promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's package prometheus is not installed")


def blocked(reason="a setting is wrong", exit_code=4, since="2026-11-20T11:00:00Z"):
    return {"reason": reason, "since": since, "exit_code": exit_code}


def stream(report, **changes):
    report["streams"]["useractions"] |= changes


def stuck(report):
    report["troubles"].append({"line": "something", "exit_code": 4})


# Each fault: what it does to the report of `status`, what is counted in a minute, and the alerts that it raises. A
# report with troubles also raises UaharvestUnhealthy, after half an hour.
FAULTS = {
    "nothing": (lambda report: None, COUNTS, {}),
    "Opencast is down": (
        lambda report: (stuck(report), stream(report, failure={"place": "opening"})),
        COUNTS | {"faults:opencast:unreachable": 60},
        {"UaharvestUpstreamDown", "UaharvestStreamFailing", "UaharvestUnhealthy"},
    ),
    "Opencast times out": (
        lambda report: (stuck(report), stream(report, failure={"place": "working"})),
        COUNTS | {"faults:opencast:timeout": 60},
        {"UaharvestUpstreamDown", "UaharvestStreamFailing", "UaharvestUnhealthy"},
    ),
    "Opencast refuses the login": (
        lambda report: (stuck(report), stream(report, blocked=blocked())),
        COUNTS | {"faults:opencast:refused": 100},
        {"UaharvestUpstreamRefuses", "UaharvestStreamBlocked", "UaharvestUnhealthy"},
    ),
    "SQS is denied": (
        lambda report: (
            stuck(report),
            stream(report, blocked=blocked()),
            report.update(sqs={"queue": "queue", "error": "AccessDenied", "absent": False}),
        ),
        COUNTS | {"requests:sqs:0.25": 10, "microseconds:sqs": 1, "faults:sqs:refused": 10},
        {"UaharvestSqsDown", "UaharvestStreamBlocked", "UaharvestUpstreamRefuses", "UaharvestUnhealthy"},
    ),
    "S3 is down": (
        lambda report: (
            stuck(report),
            stream(report, lag_seconds=None, overdue_seconds=None, s3_error="S3 does not answer"),
        ),
        COUNTS | {"requests:s3:30.0": 10, "microseconds:s3": 1, "faults:s3:timeout": 10},
        {"UaharvestS3Down", "UaharvestUpstreamDown", "UaharvestUnhealthy"},
    ),
    "S3 denies the bucket": (
        lambda report: (stuck(report), stream(report, blocked=blocked(since=None))),
        COUNTS,
        {"UaharvestS3Down", "UaharvestStreamBlocked", "UaharvestUnhealthy"},
    ),
    "Redis is down": (
        lambda report: (
            stuck(report),
            report["redis"].update(error="Redis does not answer"),
            report.update(broker_error="Celery's broker does not answer"),
        ),
        COUNTS,
        {"UaharvestRedisDown", "UaharvestUnhealthy"},
    ),
    "Redis deletes keys": (
        lambda report: report["redis"].update(evicts="Redis deletes keys when its memory is full"),
        COUNTS,
        {"UaharvestRedisEvicts"},
    ),
    "the broker is down, and not Redis": (
        lambda report: (stuck(report), report.update(broker_error="Celery's broker does not answer")),
        COUNTS,
        {"UaharvestBrokerDown", "UaharvestUnhealthy"},
    ),
    "Elasticsearch is down": (
        lambda report: (
            stuck(report),
            report["index"].update(failure={"place": "working"}, last_drain={"ended_at": "2026-11-20T11:00:00Z"}),
        ),
        COUNTS
        | {
            "requests:elasticsearch:5.0": 9,
            "microseconds:elasticsearch": 1,
            "faults:elasticsearch:unreachable": 9,
        },
        {"UaharvestUpstreamDown", "UaharvestStreamFailing", "UaharvestIndexBehind", "UaharvestUnhealthy"},
    ),
    "Zoom's calls for the day are used up": (
        lambda report: report["zoom_calls"]["Heavy"].update(exhausted_until="2026-11-21T00:00:00Z"),
        COUNTS,
        {"UaharvestZoomQuotaExhausted"},
    ),
    "no worker consumes a queue": (
        lambda report: (
            stuck(report),
            report["queues"].update(zoom=24),
            report.update(workers={"w": ["control"]}),
        ),
        COUNTS,
        {"UaharvestNoWorker", "UaharvestUnhealthy"},
    ),
    "beat is silent": (
        lambda report: (
            stuck(report),
            [part.update(ticked_seconds_ago=3600) for part in (*report["streams"].values(), report["index"])],
        ),
        COUNTS,
        {"UaharvestNoBeat", "UaharvestUnhealthy"},
    ),
    "beat was never started": (
        lambda report: (
            stuck(report),
            [part.update(ticked_seconds_ago=None) for part in (*report["streams"].values(), report["index"])],
        ),
        COUNTS,
        {"UaharvestNoBeat", "UaharvestUnhealthy"},
    ),
    "one stream hears no ticks": (
        lambda report: (stuck(report), stream(report, ticked_seconds_ago=3600, open_runs=[])),
        COUNTS,
        {"UaharvestNoTick", "UaharvestUnhealthy"},
    ),
    "a stream lags": (
        lambda report: (stuck(report), stream(report, lag_seconds=9000, overdue_seconds=5000)),
        COUNTS,
        {"UaharvestLag", "UaharvestUnhealthy"},
    ),
    "a run does not end": (
        lambda report: report["streams"]["useractions"]["open_runs"][0].update(opened_at="2026-11-20T09:00:00Z"),
        COUNTS,
        {"UaharvestRunStuck"},
    ),
    "a span is refused": (
        lambda report: (
            report["troubles"].append({"line": "span", "exit_code": 3}),
            stream(report, blocked=blocked(exit_code=3)),
        ),
        COUNTS,
        {"UaharvestSpanRefused", "UaharvestUnhealthy"},
    ),
    "a dead letter waits": (
        lambda report: (
            report["troubles"].append({"line": "dead letters", "exit_code": 5}),
            stream(report, dead_letters=1),
        ),
        COUNTS | {"dead": 1},
        {"UaharvestDeadLetters", "UaharvestUnhealthy"},
    ),
    "the queue was deleted": (
        lambda report: (stuck(report), stream(report, lost=[{"reason": "queue", "since": "2026-11-20"}])),
        COUNTS,
        {"UaharvestLoss", "UaharvestUnhealthy"},
    ),
    "an index is blocked": (
        lambda report: (stuck(report), report["index"].update(blocked=blocked())),
        COUNTS | {"blocked indices": 1},
        {"UaharvestIndexBlocked", "UaharvestStreamBlocked", "UaharvestUnhealthy"},
    ),
    "a backfill stands still": (
        lambda report: report["backfills"][0].update(saved_at="2026-11-20T09:00:00Z"),
        COUNTS,
        {"UaharvestBackfillStalled"},
    ),
    "a backfill cannot go on": (
        lambda report: (stuck(report), report["backfills"][0].update(blocked=blocked())),
        COUNTS,
        {"UaharvestStreamBlocked", "UaharvestUnhealthy"},
    ),
    "an audit finds gaps": (
        lambda report: (
            report["troubles"].append({"line": "missing", "exit_code": 6}),
            report["audits"]["gaps"].append({"stream": "useractions", "missing": 12}),
        ),
        COUNTS,
        {"UaharvestAuditGaps", "UaharvestUnhealthy"},
    ),
    "nobody audits": (
        lambda report: report["audits"]["newest"]["useractions"].update(seconds_ago=3 * 86_400),
        COUNTS,
        {"UaharvestAuditOld"},
    ),
    "audits fail": (
        lambda report: (stuck(report), report["audits"].update(failure={"place": "working"})),
        COUNTS,
        {"UaharvestStreamFailing", "UaharvestUnhealthy"},
    ),
    "nobody reads SQS": (lambda report: report.update(index=None), COUNTS, {"UaharvestQueueUnread"}),
    "a clock is wrong": (
        lambda report: report["clocks"][0].update(seconds_ahead=-70.0),
        COUNTS,
        {"UaharvestClockSkew"},
    ),
    "the metrics process is gone": (None, COUNTS, {"UaharvestMetricsGone"}),
}


def input_series(fault):
    """Return what Prometheus would scrape each minute: gauges stay, counters grow by what is counted in a minute."""
    break_it, a_minute, _ = FAULTS[fault]
    if break_it is None:
        return []
    report = healthy()
    break_it(report)
    blocked_indices = a_minute.get("blocked indices", 0)
    counted = {name: amount for name, amount in a_minute.items() if name != "blocked indices"}
    twice = {name: 2 * amount for name, amount in counted.items()}
    first, second = (values(samples(report, counts, blocked_indices)) for counts in (counted, twice))
    assert first.keys() == second.keys()
    return [
        {"series": series, "values": f"{value}+{second[series] - value}x{MINUTES}"}
        for series, value in first.items()
    ]


@promtool
def test_promtool_finds_the_rules_in_order():
    done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_prometheus_takes_the_example_of_its_configuration():
    command = ["promtool", "check", "config", str(ROOT / "monitoring/prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_each_fault_raises_the_alerts_that_name_it_and_no_others(tmp_path):
    groups = [
        {
            "name": fault,
            "interval": "1m",
            "input_series": input_series(fault),
            "promql_expr_test": [
                {
                    "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{MINUTES - 1}m",
                    "exp_samples": [
                        {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)
                    ],
                }
            ],
        }
        for fault, (_, _, alerts) in FAULTS.items()
    ]
    file = tmp_path / "faults.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": groups}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_raised_by_some_fault():
    assert {rule["alert"] for rule in RULES} == set().union(*(alerts for _, _, alerts in FAULTS.values()))


def test_alerts_ask_only_for_metrics_that_there_are():
    used = {name for rule in RULES for name in re.findall(r"\buaharvest_\w+", rule["expr"])}
    assert {re.sub(r"_(sum|count|bucket)$", "", name) for name in used} <= METRICS.keys()


def test_each_alert_says_what_is_wrong_and_what_to_do():
    for rule in RULES:
        assert rule["annotations"].keys() == {"summary", "remedy"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_the_page_has_each_alert_and_what_to_do(check_generated):
    rows = ["| alert | after | what is wrong | what to do |", "|---|---|---|---|"]
    for rule in RULES:
        summary, remedy = (
            re.sub(r"\{\{ (?:\$labels\.)?\$?(\w+)[^}]*\}\}", r"*\1*", rule["annotations"][name])
            for name in ("summary", "remedy")
        )
        rows.append(f"| `{rule['alert']}` ({rule['labels']['severity']}) | {rule['for']} | {summary} | {remedy} |")
    check_generated(ROOT / "docs/monitoring.md", "tests/monitoring/test_alerts.py", "\n".join([*rows, ""]))
