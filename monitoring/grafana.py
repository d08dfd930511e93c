"""Makes the Grafana dashboard, with Grafana's own types."""

import functools
import string
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, Threshold, ThresholdsMode

FILE = Path(__file__).parent / "grafana.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# Grafana replaces this variable. It is at least four times the scrape interval.
RATE = "$__rate_interval"

# Panels by row: title, unit, and queries by legend.
ROWS: Mapping[str, Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "Is it moving?": {
        "Lag behind the source": ("s", {"{{stream}}": "uaharvest_stream_lag_seconds"}),
        "Rows delivered": (
            "cps",
            {"{{stream}}": f"sum by (stream) (rate(uaharvest_records_delivered_total[{RATE}]))"},
        ),
        "Slices": ("short", {"{{stream}} {{state}}": "uaharvest_slices"}),
        "Age of open runs": ("s", {"{{stream}} {{kind}}": "uaharvest_open_run_age_seconds"}),
        "Rows read again and not sent": (
            "cps",
            {"{{stream}}": f"sum by (stream) (rate(uaharvest_records_repeated_total[{RATE}]))"},
        ),
        "Blocked, failing, span refused": (
            "short",
            {
                "{{stream}} blocked": "uaharvest_stream_blocked",
                "{{stream}} failing": "uaharvest_stream_failing",
                "{{stream}} span refused": "uaharvest_stream_span_refused",
            },
        ),
    },
    "Other services": {
        "Mean duration of a request": (
            "s",
            {
                "{{upstream}}": f"sum by (upstream) (rate(uaharvest_upstream_request_duration_seconds_sum[{RATE}]))"
                f" / sum by (upstream) (rate(uaharvest_upstream_request_duration_seconds_count[{RATE}]))"
            },
        ),
        "95 of 100 requests end within": (
            "s",
            {
                "{{upstream}}": "histogram_quantile(0.95, sum by (upstream, le)"
                f" (rate(uaharvest_upstream_request_duration_seconds_bucket[{RATE}])))"
            },
        ),
        "Failed requests": (
            "cps",
            {"{{upstream}} {{kind}}": f"rate(uaharvest_upstream_failures_total[{RATE}])"},
        ),
        "Failures of runs and slices": ("cps", {"{{stream}} {{kind}}": f"rate(uaharvest_failures_total[{RATE}])"}),
        "Zoom calls left today": ("short", {"{{cap}}": "uaharvest_zoom_calls_remaining"}),
        "Clocks, ahead of Redis's": ("s", {"{{clock}}": "uaharvest_clock_skew_seconds"}),
    },
    "Queues, workers, index": {
        "Messages in SQS": ("short", {"{{state}}": "uaharvest_sqs_messages"}),
        "Messages to be indexed": ("short", {"backlog": "uaharvest_index_backlog_messages"}),
        "Documents indexed": ("cps", {"indexed": f"rate(uaharvest_documents_indexed_total[{RATE}])"}),
        "Messages in Celery's queues": ("short", {"{{queue}}": "uaharvest_queue_messages"}),
        "Workers by queue": ("short", {"{{queue}}": "uaharvest_queue_workers"}),
        "Last tick of beat": ("s", {"{{stream}}": "uaharvest_beat_tick_age_seconds"}),
    },
    "Backfills and audits": {
        "Backfills": ("short", {"{{stream}} {{state}}": "uaharvest_backfills"}),
        "Rows of backfills": ("cps", {"{{stream}}": "uaharvest_backfill_rows_per_second"}),
        "Rows left": ("short", {"{{stream}}": "uaharvest_backfill_rows_left"}),
        "Since a backfill got on": ("s", {"{{stream}}": "uaharvest_backfill_idle_seconds"}),
        "Rows missing": ("short", {"{{stream}}": "uaharvest_audit_missing_rows"}),
        "Age of the newest audit": ("s", {"{{stream}}": "uaharvest_audit_age_seconds"}),
    },
}
# The numbers at the top; each is bad from 1 on.
NUMBERS: Mapping[str, str] = {
    "Exit code of status": "max(uaharvest_status_exit_code)",
    "Streams blocked": "sum(uaharvest_stream_blocked)",
    "Dead letters": "sum(uaharvest_dead_letters)",
    "Parts that do not answer": "sum(uaharvest_scrape_error)",
    "Indices blocked": "sum(uaharvest_index_blocked_indices)",
    "Losses to confirm": "sum(uaharvest_losses)",
    "Rows missing": "sum(uaharvest_audit_missing_rows)",
    "Redis deletes keys": "max(uaharvest_redis_evicts)",
}


@functools.cache
def text() -> str:
    """Return the dashboard as JSON, ready to import."""
    built = (
        dashboard.Dashboard("uaharvest")
        .uid("uaharvest")
        .description("The harvest of useractions, episodes and Zoom meetings; made by `python -m monitoring`.")
        .tags(["uaharvest"])
        .refresh("1m")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for title, query in NUMBERS.items():
        built.with_panel(_number(title, query))
    for row, panels in ROWS.items():
        built.with_row(dashboard.Row(row))
        for title, (unit, queries) in panels.items():
            built.with_panel(_lines(title, unit, queries))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _number(title: str, query: str) -> stat.Panel:
    steps = [Threshold(value=None, color="green"), Threshold(value=1, color="red")]
    return (
        stat.Panel()
        .title(title)
        .datasource(SOURCE)
        .height(4)
        .span(3)
        .color_mode(BigValueColorMode.BACKGROUND)
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(prometheus.Dataquery().ref_id("A").datasource(SOURCE).expr(query).instant())
    )


def _lines(title: str, unit: str, queries: Mapping[str, str]) -> timeseries.Panel:
    legends = common.VizLegendOptions().show_legend(show_legend=True)
    legends.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = timeseries.Panel().title(title).datasource(SOURCE).unit(unit).height(8).span(8).legend(legends)
    for letter, (legend, query) in zip(string.ascii_uppercase, queries.items(), strict=False):
        target = prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(query)
        panel.with_target(target.legend_format(legend))
    return panel
