"""The simulator's command line: options, defaults and validation."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from simulators.arguments import Parser, instant, number, whole
from simulators.opencast.auth import MODES
from simulators.opencast.profiles import PROFILES, Profile

USERTRACKING = ("on", "off", "forbidden")
ORDERS = ("shuffled", "created", "id", "mariadb")


@dataclass(frozen=True, slots=True)
class Options:
    """A simulator's options; times are in the units in their names, `until` in epoch seconds."""

    port: int
    seed: int
    profile: Profile
    usertracking: str
    zone: str
    auth: str
    user: str
    password: str
    nonce_seconds: float
    rows: int
    span_seconds: float
    until: float
    episodes: int
    live_rate: float
    late_share: float
    late_seconds: float
    order: str
    millis: bool
    wall_time: bool
    omitted: bool
    latency_ms: float
    latency_per_10k_offset_ms: float
    start_503_seconds: float
    node_clocks: tuple[float, ...]
    node_choice: str


def parse_options(arguments: Sequence[str] | None) -> Options:
    """Parse the command line; if it is invalid, print one line and exit with code 2."""
    parser = _make_parser()
    given = vars(parser.parse_args(arguments))
    if given["late_share"] and not given["live_rate"]:
        parser.error("argument --late-share: expected together with --live-rate, whose rows it makes late")
    given["profile"] = PROFILES[given["profile"]]
    given["millis"] = given["millis"] == "on"
    given["wall_time"] = given["wall_time"] == "on"
    return Options(**given)


def _make_parser() -> Parser:
    parser = Parser(
        prog="python -m simulators.opencast",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="An Opencast that answers as the real one does and can be made to fail. It binds "
        "127.0.0.1 only, prints 'listening on http://127.0.0.1:PORT' when it is ready, ends on SIGTERM or "
        "SIGINT, and is controlled under /_sim/ (GET /_sim/ lists what can be asked there).",
    )
    server = parser.add_argument_group("server")
    server.add_argument("--port", type=whole(0, 65535), default=0, help="0 takes a free one")
    server.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        default="dce",
        help="dce: Harvard's fork (start/end, strings, old search, workflow lists); "
        "ocN and stock (oc16): Opencast as it is released, with start/end ignored with 200",
    )
    server.add_argument(
        "--usertracking",
        choices=USERTRACKING,
        default="on",
        help="off: the plugin is not there, 404; forbidden: not for the account's role, 403",
    )
    server.add_argument(
        "--zone",
        type=_zone,
        default="America/Bogota",
        help="the server's time zone; the default has no daylight saving time, so that no day is special",
    )
    server.add_argument(
        "--wall-time",
        choices=("on", "off"),
        default="on",
        help="on: the column holds local wall time, so rows of the first pass through a repeated hour are "
        "reported an hour late; off: true instants",
    )
    server.add_argument("--millis", choices=("on", "off"), default="off", help="keep fractions of created")
    server.add_argument(
        "--order",
        choices=ORDERS,
        default="shuffled",
        help="the order of rows, which the real query leaves to the database; shuffled: dealt alike for "
        "the pages of one query until a row more is in its range, then all anew; mariadb: by id where no time "
        "is asked for or the limit reaches beyond the table, else by created; where the range is most of the table "
        "the plan changes for each 7th request to one by id",
    )
    server.add_argument(
        "--node-clocks",
        type=_clocks,
        default="0",
        help="seconds that the clock of each node behind the address is ahead, such as 0,3: a request is answered, "
        "and a live row made, by the clock of one of them",
    )
    server.add_argument(
        "--node-choice", choices=("in-turn", "random"), default="in-turn", help="which node answers a request"
    )
    login = parser.add_argument_group("login")
    login.add_argument(
        "--auth",
        choices=MODES,
        default="digest",
        help="what the account may use; open: both, and usertracking and search answer anybody",
    )
    login.add_argument("--user", default="admin", help="the one account, an administrator")
    login.add_argument("--password", default="opencast", help="its password")
    login.add_argument("--nonce-seconds", type=number(), default=300.0, help="life of a digest nonce")
    data = parser.add_argument_group("data", "decided by --seed: equal arguments serve equal data")
    data.add_argument("--seed", type=whole(), default=1, help="any whole number")
    data.add_argument("--rows", type=whole(0), default=10_000, help="rows that are there at the start")
    data.add_argument("--span-seconds", type=number(), default=3600.0, help="time that they spread over")
    data.add_argument(
        "--until", type=instant, default="now", help="where they end: an ISO time with a zone, or now"
    )
    data.add_argument("--episodes", type=whole(1), default=140, help="episodes that rows refer to")
    data.add_argument(
        "--omitted", action="store_true", help="log -omitted- for user, address and session (default of 6+)"
    )
    live = parser.add_argument_group("live")
    live.add_argument("--live-rate", type=number(), default=0.0, help="rows per second, written as time goes")
    live.add_argument("--late-share", type=number(1.0), default=0.0, help="share of them that comes late")
    live.add_argument("--late-seconds", type=number(), default=60.0, help="how late these become visible")
    trouble = parser.add_argument_group("trouble", "more of it with POST /_sim/faults")
    trouble.add_argument("--latency-ms", type=number(), default=0.0, help="of every answer but /_sim/")
    trouble.add_argument(
        "--latency-per-10k-offset-ms", type=number(), default=0.0, help="more for actions, by their offset"
    )
    trouble.add_argument(
        "--start-503-seconds", type=number(), default=0.0, help="answer 503 so long after the start"
    )
    return parser


def _clocks(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected seconds such as 0,3, got {text!r}") from error


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(f"expected a zone like America/New_York, got {text!r}") from error
    return text
