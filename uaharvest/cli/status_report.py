"""Prints the report of `status` as text."""

from collections.abc import Iterator
from typing import Any

from uaharvest import plain
from uaharvest.cli import output
from uaharvest.intervals import duration
from uaharvest.streams import registry


def show(report: dict[str, Any]) -> None:
    """Print the report: a table of the streams, the troubles, and a line for each of the other parts."""
    lines: list[output.Line] = [*_table(report)]
    lines += [(plain.one_line(trouble["line"]), "red") for trouble in report["troubles"]]
    lines += [(plain.one_line(note), "yellow") for note in report["notes"]]
    for name, stream in report["streams"].items():
        last: dict[str, Any] = next((run for run in stream["last_runs"] if run["delivered"]), {})
        if remark := registry.spec_of(name).remark(last.get("counts", {})):
            lines.append((plain.one_line(f"{name}: {remark}"), "yellow"))
    lines.append(("", None))
    lines += [(plain.one_line(line), None) for line in _lines(report)]
    output.show(lines)


def _lines(report: dict[str, Any]) -> Iterator[str]:
    queues = " · ".join(f"{name} {depth}" for name, depth in report["queues"].items()) or "?"
    ago = report["beat_ticked_seconds_ago"]
    beat = "beat has not ticked yet" if ago is None else f"beat ticked {duration(ago)} ago"
    yield f"queues    {queues}        workers {_workers(report)} · {beat}"
    opencast = report["opencast"]
    if opencast["profile"]:
        how = "detected" if opencast["found_by"] == "asking" else f"set by {opencast['found_by']}"
        yield f"Opencast  {opencast['host']}: profile {opencast['profile']}, {how}"
    sqs = report["sqs"]
    if sqs and "error" in sqs:
        yield f"SQS       {sqs['error']}"
    elif sqs:
        yield f"SQS       {sqs['queue']}: {sqs['waiting']:,} waiting, {sqs['in_flight']:,} in flight"
    if report["index"]:
        last = report["index"]["last_drain"]
        outcome = f"last drain: {last['error'] or _drained(last)}" if last else "no drain has ended yet"
        yield f"index     {report['index']['indexed']:,} indexed · {outcome}"
    if report["audits"]:
        yield f"audit     {' · '.join(map(_audited, report['audits']['newest'].values())) or 'none yet'}"
    if (retained := report["retention"]) and (last := retained["last"]):
        removed = " · ".join(f"{count:,} of {what}" for what, count in last["removed"].items()) or "nothing"
        kept = "".join(f" · {line}" for line in last["kept"])
        ended = last["at"].replace("T", " ").rstrip("Z")
        yield f"retention {removed} deleted, {'ended' if last['done'] else 'left off'} {ended} UTC{kept}"
    if people := report["erasures"]["people"]:
        yield f"erasures  {people:,} people"
    for one in report["backfills"]:
        rate = f", {one['rows_per_second']:,.0f}/s" if one["state"] == "running" else ""
        left = f", about {duration(one['seconds_left'])} left" if one["seconds_left"] else ""
        yield (
            f"backfill  {one['id']}: {one['stream']}, {one['state']}, {one['share']:.1%} done,"
            f" {one['rows']:,} rows{rate}{left}"
        )
    if report["zoom_calls"]:
        used = [
            f"{label} {_used(calls)}"
            for label, calls in report["zoom_calls"].items()
            if calls["calls"] or calls["exhausted_until"]
        ]
        yield f"Zoom      calls today: {' · '.join(used) or 'none'}"
    yield f"privacy   {report['privacy']['words']}"


def _audited(one: dict[str, Any]) -> str:
    missing = sum(counts["missing"] for counts in one["found"].values())
    return f"{one['stream']} {one['day']}: {missing:,} missing, compared {duration(one['seconds_ago'])} ago"


def _workers(report: dict[str, Any]) -> str:
    alive = report["workers"]
    if report["broker_error"]:
        return "?"
    if alive is None:
        return "cannot be queried over SQS"
    hosts = {name.partition("@")[2] for name in alive}
    return f"{len(alive)} ({len(hosts)} host{'s' * (len(hosts) != 1)})" if hosts else "0"


def _table(report: dict[str, Any]) -> Iterator[output.Line]:
    columns = ("stream", "watermark (UTC)", "lag", "open run", "last run", "dead letters")
    rows = []
    for name, stream in report["streams"].items():
        cells = (
            name,
            stream["watermark"].replace("T", " ").rstrip("Z") if stream["watermark"] else "none yet",
            duration(max(stream["lag_seconds"], 0)) if stream["lag_seconds"] is not None else "-",
            "\n".join(_open_run(run) for run in stream["open_runs"]) or "-",
            _last_run(stream["last_runs"]),
            "?" if stream["dead_letters"] is None else str(stream["dead_letters"]),
        )
        red = stream["blocked"] or stream["failure"] or stream["dead_letters"]
        rows.append((cells, "red" if red else None))
    return output.table(columns, rows, output.width())


def _used(calls: dict[str, Any]) -> str:
    until = calls["exhausted_until"]
    spent = f" (used up until {until.replace('T', ' ').rstrip('Z')} UTC)" if until else ""
    return f"{calls['calls']:,}{spent}"


def _drained(last: dict[str, Any]) -> str:
    erased = f", {last['erased']:,} of erased people left out" if last.get("erased") else ""
    ended = last["ended_at"].replace("T", " ").rstrip("Z")
    return f"{last['indexed']:,} in {last['seconds']} s{erased}, ended {ended} UTC"


def _open_run(run: dict[str, Any]) -> str:
    slices = run["slices"]
    name = "" if run["kind"] == "live" else f"{run['id'][:8]}: "
    waiting = f", {slices['put_off']} put off" if slices["put_off"] else ""
    return (
        f"{name}slices {slices['done']}/{slices['planned']} done, {slices['claimed']} claimed, "
        f"{slices['due']} due{waiting}"
    )


def _last_run(runs: list[dict[str, Any]]) -> str:
    if not runs:
        return "-"
    last = runs[0]
    outcome = "" if last["outcome"] == "done" else f" ({last['outcome']})"
    counts = "".join(f", {count:,} {name.replace('_', ' ')}" for name, count in sorted(last["counts"].items()))
    return f"{last['delivered']:,} records{counts}, {last['seconds']} s{outcome}"
