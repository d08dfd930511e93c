"""Runs checks in parallel, each as soon as what it depends on has passed, and ends in time whatever hangs."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import redis

from uaharvest.doctor.findings import Finding, Status, fail, failed, skipped
from uaharvest.doctor.site import Site
from uaharvest.errors import HarvestError
from uaharvest.intervals import duration
from uaharvest.redis_url import RedisUrl
from uaharvest.runs.state import reason_of
from uaharvest.settings import Settings

# Seconds that one check may take, and all of them together. With the start of Python, a command ends within 20 s.
LIMIT = 7.0
TOTAL = 12.0


def _used(_: Settings) -> str:
    return ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check.

    Attributes:
        name: Its name in JSON: the service, a dot, and what is looked at.
        title: The service, as people call it.
        look: Looks and yields findings; one error ends it.
        needs: The checks that must have passed before.
        after: Those of the checks that must have ended before, whatever they found.
        alone: Whether it is left out if one of `after` failed: it would only repeat that.
        unused: Returns why this site does not use the service; "" if it does.
        setting: What to look at if the service hangs.
        quick: Whether `--quick` makes it too.
    """

    name: str
    title: str
    look: Callable[[Site], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    alone: bool = False
    unused: Callable[[Settings], str] = _used
    setting: str = ""
    quick: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """A finding of a check."""

    check: Check
    finding: Finding


def examine(
    site: Site, checks: Sequence[Check], *, quick: bool = False, limit: float = LIMIT, total: float = TOTAL
) -> list[CheckResult]:
    """Make all checks and return what they found, in the order of `checks`.

    Checks run in daemon threads, which end with the process: a hanging thread cannot be stopped.

    Args:
        site: What to look at.
        checks: The checks; each comes after those that it needs.
        quick: Leave out checks that take long.
        limit: Seconds that one check may take.
        total: Seconds that all of them may take.
    """
    examination = _Examination(site, checks, quick=quick, limit=limit, total=total)
    findings = examination.findings()
    return [CheckResult(check, finding) for check in checks for finding in findings[check.name]]


def unreadable(error: HarvestError, checks: Sequence[Check]) -> list[CheckResult]:
    """Return the report if the settings cannot be used: a failure for each line, and no other check."""
    first, *others = checks
    lines = [CheckResult(first, failed(line)) for line in str(error).splitlines()]
    return lines + [CheckResult(check, skipped(_because(first.name))) for check in others]


class _Examination:
    def __init__(self, site: Site, checks: Sequence[Check], *, quick: bool, limit: float, total: float) -> None:
        self._site = site
        self._quick = quick
        self._limit = limit
        self._end = time.monotonic() + total
        self._waiting = {check.name: check for check in checks}
        self._all = frozenset(self._waiting)
        self._running: dict[str, tuple[Check, float]] = {}
        self._ended: queue.Queue[tuple[str, list[Finding]]] = queue.Queue()
        self._findings: dict[str, list[Finding]] = {}

    def findings(self) -> Mapping[str, list[Finding]]:
        """Make the checks and return their findings by the check's name."""
        while self._waiting or self._running:
            for check in list(self._waiting.values()):
                self._begin(check)
            self._await()
        return self._findings

    def _begin(self, check: Check) -> None:
        """Start a check if nothing is left to wait for, or settle that it is not made."""
        if not self._findings.keys() >= {*check.needs, *check.after} & self._all:
            return
        del self._waiting[check.name]
        if reason := check.unused(self._site.settings):
            self._findings[check.name] = [skipped(reason, unused=True)]
            return
        if reason := self._obstacle(check):
            self._findings[check.name] = [skipped(reason)]
            return
        self._running[check.name] = check, min(time.monotonic() + self._limit, self._end)
        threading.Thread(target=self._work, args=(check,), name=check.name, daemon=True).start()

    def _obstacle(self, check: Check) -> str:
        """Return why a check is not made; "" if it is."""
        for name in check.needs:
            blocking = next((one for one in self._findings[name] if one.blocks), None)
            if blocking is not None:
                # The reason of a check that was skipped names the one that failed.
                if blocking.status is Status.SKIPPED:
                    return blocking.found
                return _because(name) if blocking.status is Status.FAIL else f"not looked at because of {name}"
        if check.alone and (name := next(filter(self._failed, check.after), "")):
            return _because(name)
        if not check.quick and self._quick:
            return "left out by --quick"
        return "" if time.monotonic() < self._end else "no time was left"

    def _failed(self, name: str) -> bool:
        return any(one.status is Status.FAIL for one in self._findings.get(name, []))

    def _work(self, check: Check) -> None:
        findings: list[Finding] = []
        try:
            for finding in check.look(self._site):
                findings.append(finding)  # noqa: PERF402 - an error must not lose those before it
        except Exception as error:  # noqa: BLE001 - any failure becomes part of the report
            findings.append(self._of(error))
        self._ended.put((check.name, findings))

    def _of(self, error: Exception) -> Finding:
        if isinstance(error, HarvestError):
            return failed(error)
        if isinstance(error, redis.RedisError):
            return failed(RedisUrl.parse(self._site.settings.redis_url).failure(error))
        return fail(f"the check itself failed: {reason_of(error).partition('.')[0]}", "Please report this bug.")

    def _await(self) -> None:
        """Wait until a check ends, or until one has taken too long."""
        if not self._running:
            return
        first = min(deadline for _, deadline in self._running.values())
        try:
            name, findings = self._ended.get(timeout=max(first - time.monotonic(), 0.0))
        except queue.Empty:
            for name, (check, deadline) in list(self._running.items()):
                if deadline <= time.monotonic():
                    del self._running[name]
                    self._findings[name] = [_hangs(check, self._limit)]
            return
        if self._running.pop(name, None) is not None:  # otherwise it ended too late
            self._findings[name] = findings


def _because(name: str) -> str:
    return f"not looked at, because {name} failed"


def _hangs(check: Check, limit: float) -> Finding:
    advice = f"Check {check.setting}, and that" if check.setting else "Check that"
    return fail(
        f"{check.title} has not answered within {duration(limit)} ({check.name})",
        f"{advice} no firewall drops what is sent there.",
    )
