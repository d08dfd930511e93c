"""Alerts: what a person is sent when a stream is blocked, lags, makes a dead letter or loses data, and when it ends.

Pure functions decide from the report of `status` and from what was reported before. Alerts then wait in Redis until
their receiver has taken them, so none is lost while it is down.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import redis
import requests
import structlog

from uaharvest import keys
from uaharvest.errors import BusyError, RetryableError
from uaharvest.intervals import duration
from uaharvest.plain import counted
from uaharvest.transport import BoundedSession

# A lag goes up and down by a period of beat. It has ended only after this many checks in a row without it.
CALM = 3
# Alerts that wait for one receiver; if there are more, the oldest are dropped.
MOST_WAITING = 100
# Alerts that one check sends to a receiver, and seconds that each may take.
MOST_AT_ONCE = 5
TIMEOUT = 5.0
# Seconds. A check takes less; its lock ends by then if its worker dies.
LOCKED = 120.0
# Seconds that an alert waits for its receiver.
WAITS = 7 * 86_400
STREAM_OF_INDEXER = "index"

AlertKind = Literal["blocked", "lags", "dead letters", "loss"]
AlertReceiver = Callable[[str], None]  # takes one line of JSON; raises RetryableError

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Something that a person was alerted to and that has not ended.

    Attributes:
        since: When it was reported: ISO 8601, UTC.
        count: Dead letters reported so far.
        calm: Checks in a row that have not found it.
    """

    since: str
    count: int = 0
    calm: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One line of JSON for a person or a program.

    Attributes:
        text: The whole in words; Slack and Mattermost show this field.
        alert: What it is about.
        state: Whether it began or ended.
        stream: The stream, or `index`.
        at, since: When it was noticed, and when it began: ISO 8601, UTC.
        host: The host that sends it.
    """

    text: str
    alert: AlertKind
    state: Literal["raised", "healed"]
    stream: str
    at: str
    since: str
    host: str = dataclasses.field(default_factory=socket.gethostname)

    def __str__(self) -> str:
        return json.dumps(dataclasses.asdict(self))


Standing = Mapping[str, Reported]
Decision = tuple[Reported | None, str]


def decide(reported: Standing, report: Mapping[str, Any], now: str) -> tuple[dict[str, Reported], list[Alert]]:
    """Return what is reported from now on, by stream and kind, and the alerts that follow from it.

    What the report does not know, because Redis or S3 did not answer, has neither begun nor ended.

    Args:
        reported: What was reported before.
        report: The report of `status`.
        now: The time: ISO 8601, UTC.
    """
    standing, alerts = dict(reported), []
    known = not report["redis"]["error"]
    parts = {**report["streams"], **({STREAM_OF_INDEXER: report["index"]} if report["index"] else {})}
    steps: dict[AlertKind, Callable[..., Decision]] = {
        "blocked": _blocked,
        "lags": _lags,
        "dead letters": _dead_letters,
        "loss": _loss,
    }
    for stream, part in parts.items():
        for kind, step in steps.items():
            name = f"{stream} {kind}"
            before = standing.pop(name, None)
            after, text = step(part, before, now, known=known)
            if after:
                standing[name] = after
            if text:
                began = after or before
                alerts.append(
                    Alert(
                        text=f"{stream} {text}",
                        alert=kind,
                        state="raised" if after else "healed",
                        stream=stream,
                        at=now,
                        since=began.since if began else now,
                    )
                )
    return standing, alerts


def _blocked(part: Mapping[str, Any], before: Reported | None, now: str, *, known: bool) -> Decision:
    if blocked := part["blocked"]:
        return before or Reported(since=now), "" if before else f"is blocked: {blocked['reason']}"
    if not known:
        return before, ""
    return None, f"is no longer blocked (since {before.since})" if before else ""


def _lags(part: Mapping[str, Any], before: Reported | None, now: str, *, known: bool) -> Decision:
    late = part.get("overdue_seconds")
    if late is None or not known:
        return before, ""
    if late and before:
        return dataclasses.replace(before, calm=0), ""
    if late and part["blocked"]:  # that is the reason, and reported
        return None, ""
    if late:
        why = f" {part['failure']['reason']}" if part["failure"] else ""
        text = f"lags {duration(part['lag_seconds'])} behind, {duration(late)} more than it may.{why}"
        return Reported(since=now), text
    if before and before.calm + 1 < CALM:
        return dataclasses.replace(before, calm=before.calm + 1), ""
    return None, f"has caught up (it lagged since {before.since})" if before else ""


def _dead_letters(part: Mapping[str, Any], before: Reported | None, now: str, *, known: bool) -> Decision:  # noqa: ARG001 - S3 knows them
    count, reported = part["dead_letters"], before.count if before else 0
    if count is None:
        return before, ""
    if count > reported:
        new = count - reported
        waiting = f", {count:,} wait" if reported else ""
        text = f"has {counted(new, 'new dead letter')}{waiting}: manage.py dead-letters list"
        return Reported(since=before.since if before else now, count=count), text
    if before and count:
        return dataclasses.replace(before, count=count), ""
    return None, "has no dead letters any more" if before else ""


def _loss(part: Mapping[str, Any], before: Reported | None, now: str, *, known: bool) -> Decision:
    if not known:
        return before, ""
    lost = part.get("lost", ())  # the indexer cannot lose anything
    if len(lost) > (before.count if before else 0):
        reasons = " ".join(loss["reason"] for loss in lost)
        return Reported(since=before.since if before else now, count=len(lost)), f"has lost something: {reasons}"
    if lost and before:
        return dataclasses.replace(before, count=len(lost)), ""
    return None, "has no loss any more, it is confirmed" if before else ""


class Alerts:
    """Decides which alerts there are, keeps them in Redis, and hands them to their receivers."""

    def __init__(self, client: "redis.Redis", place: str, receivers: Mapping[str, AlertReceiver]) -> None:
        """Keep what was reported under `place`, by `client`, which must decode; `receivers` by a lasting name."""
        self._redis = client
        self._place = place
        self._receivers = receivers

    def check(self, report: Mapping[str, Any], now: str) -> str:
        """Send the alerts that follow from a report of `status`, and those that wait; return the outcome in words.

        Raises:
            BusyError: Another worker is sending them.
            RetryableError: A receiver does not take them; they wait for the next check.
        """
        lock = self._redis.lock(keys.ALERTS_LOCK(self._place), timeout=LOCKED, blocking=False)
        if not lock.acquire():
            raise BusyError("another worker sends alerts")
        try:
            self._keep(report, now)
            return self._send()
        finally:
            with contextlib.suppress(redis.exceptions.LockError):  # it has ended by itself
                lock.release()

    def _keep(self, report: Mapping[str, Any], now: str) -> None:
        """Keep what is reported from now on, together with the alerts that follow from it."""
        key = keys.ALERTS(self._place)
        texts: Any = self._redis.hgetall(key)
        before = {name: Reported(**json.loads(text)) for name, text in texts.items()}
        standing, alerts = decide(before, report, now)
        if standing == before:
            return
        pipeline = self._redis.pipeline()  # all of it or nothing
        pipeline.delete(key)
        if standing:
            entries: dict[Any, Any] = {name: json.dumps(dataclasses.asdict(one)) for name, one in standing.items()}
            pipeline.hset(key, mapping=entries)
        for receiver in self._receivers if alerts else ():
            waiting = keys.ALERTS_WAITING(self._place, receiver)
            pipeline.rpush(waiting, *map(str, alerts))
            pipeline.expire(waiting, WAITS)
        pipeline.execute()
        for alert in alerts:
            log.warning("alert", text=alert.text, state=alert.state)

    def _send(self) -> str:
        sent, troubles = 0, []
        for name, send in self._receivers.items():
            waiting = keys.ALERTS_WAITING(self._place, name)
            if (dropped := int(self._redis.llen(waiting)) - MOST_WAITING) > 0:
                self._redis.ltrim(waiting, dropped, -1)
                log.error("alerts dropped, because too many wait", receiver=name, dropped=dropped)
            try:
                for _ in range(MOST_AT_ONCE):
                    if (line := self._redis.lindex(waiting, 0)) is None:
                        break
                    send(str(line))
                    self._redis.lpop(waiting)
                    sent += 1
            except RetryableError as error:
                advice = "Is that setting right, and does its receiver work?"
                troubles.append(f"{error} {advice} Alerts that wait for it: {self._redis.llen(waiting)}.")
        if troubles:
            raise RetryableError(" ".join(troubles))
        return f"{sent} sent" if sent else "nothing new"


def to_command(words: Sequence[str]) -> AlertReceiver:
    """Return a receiver that hands an alert to a command (ALERT_COMMAND) on stdin, without a shell."""

    def send(line: str) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - the command is the operator's
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that all of it can be ended
            )
        except OSError as error:
            raise RetryableError(f"ALERT_COMMAND cannot be run: {error.strerror}.") from None
        try:
            process.communicate(f"{line}\n".encode(), timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise RetryableError(f"ALERT_COMMAND did not end within {TIMEOUT:g} s.") from None
        if process.returncode:
            raise RetryableError(f"ALERT_COMMAND ended with {process.returncode}.")

    return send


def to_webhook(url: str) -> AlertReceiver:
    """Return a receiver that posts an alert to a URL (ALERT_WEBHOOK_URL), which no error shows."""

    def send(line: str) -> None:
        try:
            with BoundedSession(pool_size=1) as session:
                answer = session.fetch(
                    url,
                    method="POST",
                    data=line.encode(),
                    headers={"Content-Type": "application/json"},
                    timeout=(TIMEOUT, TIMEOUT),
                    longest=TIMEOUT,
                )
        except (requests.RequestException, ValueError) as error:
            raise RetryableError(f"ALERT_WEBHOOK_URL did not answer ({type(error).__name__}).") from None
        if answer.status_code // 100 != 2:  # noqa: PLR2004 - a redirect is not followed
            raise RetryableError(f"ALERT_WEBHOOK_URL answered {answer.status_code}.")

    return send
