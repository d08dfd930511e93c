"""The simulator's command line: options, defaults and validation."""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import NoReturn

from simulators.arguments import Parser, instant, number, whole
from simulators.zoom.endpoints import ALL_SCOPES, NAMES
from simulators.zoom.faults import Fault, parse_fault
from simulators.zoom.gate import Account
from simulators.zoom.quotas import DAY_S, LABELS, PLANS, Label, Plan, Rate, Rules

_LIMIT = re.compile(r"([a-z+-]+)=(\d+)/(?:(day)|(min)|(\d*\.?\d*)s)")
_FIXED = {"port", "seed", "date", "days", "meetings", "people", "live", "fault", "now"}


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of calls with some labels in a number of seconds; None means a day, whose calls they share."""

    labels: tuple[Label, ...]
    calls: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Options:
    """A simulator's options; times are in the units in their names."""

    port: int
    seed: int
    now: float | None
    date: date
    days: int
    meetings: int
    people: int
    live: int
    delay_seconds: float
    plan: str
    dashboard: bool
    old_windows: str
    page_token_seconds: float
    page_overlap: int
    limit: tuple[Limit, ...]
    rate_window: str
    rate_headers: bool
    retry_after: str
    day_ends_in: float | None
    day_seconds: float
    account_id: str
    client_id: str
    client_secret: str
    token_seconds: float
    one_token: bool
    token_errors: str
    jwt: bool
    gateway_header: tuple[str, str] | None
    scope: tuple[str, ...]
    fault: tuple[Fault, ...]
    latency_ms: float

    def account(self) -> Account:
        """Return the credentials and rules for the gate."""
        return Account(
            account_id=self.account_id,
            client_id=self.client_id,
            client_secret=self.client_secret,
            token_seconds=self.token_seconds,
            one_token=self.one_token,
            old_errors=self.token_errors == "old",  # noqa: S105 - a format
            jwt=self.jwt,
            gateway=self.gateway_header,
            scopes=self.scope,
        )

    def rules(self, since: float) -> Rules:
        """Return the quotas; `day_ends_in` counts from `since`, epoch seconds of the server's clock."""
        return Rules(
            plan=_limited(PLANS[self.plan], self.limit),
            sliding=self.rate_window == "sliding",
            headers=self.rate_headers,
            iso=self.retry_after == "iso",
            day_start=0 if self.day_ends_in is None else since + self.day_ends_in,
            day_seconds=self.day_seconds,
        )


class _Strict(Parser):
    def error(self, message: str) -> NoReturn:
        """Raise an error for a control request, which must not end the process."""
        raise ValueError(message.removeprefix("argument "))


def parse_options(arguments: Sequence[str] | None) -> Options:
    """Parse the command line; if it is invalid, print one line and exit with code 2."""
    return _options(_make_parser(Parser).parse_args(arguments))


def change_options(options: Options, wanted: Mapping[str, object]) -> Options:
    """Return the options with some changed, in the notation of the command line; raises `ValueError`.

    The port and the options that determine the generated data cannot change. A list replaces all values of a
    repeatable option.
    """
    words = []
    known = {field.name for field in fields(Options)}
    members = {name.replace("-", "_"): value for name, value in wanted.items()}
    for member, value in members.items():
        if member in _FIXED or member not in known:
            raise ValueError(f"{member}: no option that can be changed")
        option = f"--{member.replace('_', '-')}"
        words += [
            word for one in (value if isinstance(value, list) else [value]) for word in (option, _written(one))
        ]
    fresh = _options(_make_parser(_Strict).parse_args(words))
    return replace(options, **{member: getattr(fresh, member) for member in members})


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else json.dumps(value)


def _options(given: argparse.Namespace) -> Options:
    values = vars(given)
    if values["date"] is None:
        now = datetime.now(UTC) if values["now"] is None else datetime.fromtimestamp(values["now"], UTC)
        values["date"] = now.date() - timedelta(days=1)
    values["scope"] = tuple(values["scope"] or ALL_SCOPES)
    values["limit"] = tuple(values["limit"] or ())
    values["fault"] = tuple(values["fault"] or ())
    return Options(**values)


def _limited(plan: Plan, limits: Sequence[Limit]) -> Plan:
    rates, pools = dict(plan.rates), dict(plan.pools)
    for limit in limits:
        if limit.seconds is not None:
            rates.update(dict.fromkeys(limit.labels, Rate(limit.calls, limit.seconds)))
            continue
        # Labels that share a day's calls keep sharing them.
        shared = [pool for pool in pools if set(pool) & set(limit.labels)]
        pools.update(dict.fromkeys(shared or [limit.labels], limit.calls))
    return Plan(rates, pools)


def _make_parser(kind: type[Parser]) -> Parser:
    parser = kind(
        prog="python -m simulators.zoom",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="A Zoom account that answers as the real one does and can be made to fail. It binds "
        "127.0.0.1 only, prints 'listening on http://127.0.0.1:PORT' when it is ready, ends on SIGTERM or "
        "SIGINT, and is controlled under /_sim/ (GET /_sim/ lists what can be asked there).",
    )
    server = parser.add_argument_group("server")
    server.add_argument("--port", type=whole(0, 65535), default=0, help="0 takes a free one")
    server.add_argument("--now", type=instant, help="what its clock says at the start; real time otherwise")
    data = parser.add_argument_group("data", "decided by --seed: equal arguments serve equal data")
    data.add_argument("--seed", type=whole(), default=1, help="any whole number")
    data.add_argument("--date", type=_date, help="the last day of meetings (UTC); yesterday otherwise")
    data.add_argument("--days", type=whole(1), default=1, help="days of meetings")
    data.add_argument("--meetings", type=whole(0), default=200, help="meetings that start on each day")
    data.add_argument("--people", type=whole(4), default=60, help="users of the account")
    data.add_argument("--live", type=whole(0), default=0, help="meetings in progress besides")
    data.add_argument("--delay-seconds", type=number(), default=0.0, help="until an ended meeting is visible")
    account = parser.add_argument_group("account")
    account.add_argument("--plan", choices=sorted(PLANS), default="business", help="decides limits and endpoints")
    account.add_argument("--dashboard", type=_on, default=True, help="on|off: whether a business plan has it")
    account.add_argument("--account-id", default="account", help="of the Server-to-Server app")
    account.add_argument("--client-id", default="key", help="its id; the issuer of JWTs")
    account.add_argument("--client-secret", default="secret", help="its secret; the key of JWTs")
    account.add_argument("--scope", action="append", help="granted to tokens; may be repeated (default: all)")
    account.add_argument("--token-seconds", type=number(), default=3599.0, help="life of an access token")
    account.add_argument("--one-token", type=_on, default=False, help="on|off: a new token ends the one before")
    account.add_argument(
        "--token-errors", choices=("new", "old"), default="new", help="the shape of the token endpoint's refusals"
    )
    account.add_argument("--jwt", type=_on, default=False, help="on|off: take signed JWTs besides tokens")
    account.add_argument(
        "--gateway-header", type=_header, metavar="NAME:VALUE", help="ask for this header instead of any token"
    )
    lists = parser.add_argument_group("lists")
    lists.add_argument("--page-token-seconds", type=number(), default=900.0, help="life of a page token")
    lists.add_argument("--page-overlap", type=whole(0), default=0, help="rows of a page that the next one repeats")
    lists.add_argument(
        "--old-windows",
        choices=("refused", "empty"),
        default="refused",
        help="what a window is that begins more than six months ago; Zoom's answer is not known",
    )
    quotas = parser.add_argument_group("quotas")
    quotas.add_argument(
        "--limit",
        type=_limit,
        action="append",
        metavar="LABEL=CALLS/PERIOD",
        help="in place of the plan's, such as heavy=5/s, resource-intensive=10/2s, light=20/min or heavy=100/day "
        "(with pro and business that day is shared with resource-intensive); may be repeated",
    )
    quotas.add_argument(
        "--rate-window",
        choices=("sliding", "fixed"),
        default="sliding",
        help="sliding: no stretch of a second (or minute) has more calls, the stricter reading; fixed: no second "
        "of the clock has",
    )
    quotas.add_argument("--rate-headers", type=_on, default=True, help="on|off: answers tell about quotas")
    quotas.add_argument(
        "--retry-after", choices=("iso", "seconds"), default="iso", help="its form, after the day's last call"
    )
    quotas.add_argument(
        "--day-ends-in",
        type=number(),
        help="seconds from the start (or its change) until the daily counters begin anew, in place of 00:00 UTC",
    )
    quotas.add_argument("--day-seconds", type=number(), default=DAY_S, help="length of the days of the counters")
    trouble = parser.add_argument_group("trouble", "more of it with POST /_sim/faults")
    trouble.add_argument(
        "--fault",
        type=_fault,
        action="append",
        metavar="JSON",
        help="one order as for /_sim/faults; may be repeated",
    )
    trouble.add_argument("--latency-ms", type=number(), default=0.0, help="of every answer but /_sim/")
    return parser


def _on(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"expected on or off, got {text!r}")
    return text == "on"


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a day like 2026-11-20, got {text!r}") from error


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon and value.strip()):
        raise argparse.ArgumentTypeError(f"expected a header like 'X-Api-Key: value', got {text!r}")
    return name.strip().lower(), value.strip()


def _limit(text: str) -> Limit:
    found = _LIMIT.fullmatch(text.lower())
    known = {label.lower(): label for label in LABELS}
    names = found[1].split("+") if found else []
    if found is None or not set(names) <= set(known) or found[5] == ".":
        raise argparse.ArgumentTypeError(
            f"expected LABEL=CALLS/PERIOD like heavy=5/s, heavy=100/day or resource-intensive=10/2s, got {text!r}"
        )
    labels = tuple(label for name, label in known.items() if name in names)
    if found[3]:
        return Limit(labels, int(found[2]), None)
    return Limit(labels, int(found[2]), 60.0 if found[4] else float(found[5] or 1))


def _fault(text: str) -> Fault:
    try:
        return parse_fault(dict(json.loads(text)), NAMES)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r}") from error
