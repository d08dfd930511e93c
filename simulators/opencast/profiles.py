"""The differences between Opencast releases, and the JSON that their serializers produce from the same data.

A further release is one more line in `PROFILES`. Everything that depends on the release number is a property here;
no other code checks versions.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | Mapping[str, Json] | Sequence[Json] | None"

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_LONG = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Profile:
    """A server: an Opencast `release`, with or without Harvard DCE's private additions.

    The additions are `start`/`end` on actions.json, `includeDeleted` on search, and `isPlaying` as 0/1/2.
    """

    name: str
    release: int
    harvard: bool = False

    @property
    def attributes_are_strings(self) -> bool:
        """Jettison before 1.4 (Opencast 7 and older) wrote XML attributes as strings."""
        return self.release <= 7

    @property
    def escapes_slashes(self) -> bool:
        r"""Write `/` as `\/`, the same old Jettison's habit."""
        return self.release <= 7

    @property
    def new_search(self) -> bool:
        """Tell whether search has the form of 16.0: no wrapper, `dc` lists, Gson's doubles."""
        return self.release >= 16

    @property
    def lists_workflows(self) -> bool:
        """Tell whether `/workflow/instances.json` exists; 12.0 removed it."""
        return self.release < 12

    @property
    def forcing_header(self) -> str:
        """Name the header that makes the server refuse anonymous access and so challenge (PR #1349)."""
        return "x-requested-auth" if self.release >= 9 else "x-opencast-matterhorn-authorization"

    @property
    def challenges_basic(self) -> bool:
        """Tell whether `X-Requested-Auth: Basic` is understood."""
        return self.release >= 13

    @property
    def search_limit(self) -> int | None:
        """Return the default limit of a search without one (or with 0) up to 15; None means all (up to 10)."""
        return 100 if self.release >= 11 else None

    @property
    def forbids(self) -> bool:
        """Tell whether REST answers anonymous callers with 403 instead of the login page (PR #7182)."""
        return self.release >= 20

    @property
    def login_path(self) -> str:
        """Return the page to which a browser without a session is redirected."""
        return "/login.html" if self.release >= 15 else "/admin-ng/login.html"

    def attribute(self, text: str) -> Json:
        """Type the value of an XML attribute."""
        return text if self.attributes_are_strings else guess(text)

    def playing(self, code: int) -> Json:
        """Type `isPlaying`; code 0 is paused, 1 playing, 2 live."""
        return code if self.harvard else code > 0

    def encode(self, value: Json) -> str:
        """Write JSON as this release does."""
        text = _encode(value)
        return text.replace("/", "\\/") if self.escapes_slashes else text


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("dce", release=7, harvard=True),
        Profile("stock", release=16),
        *(Profile(f"oc{release}", release) for release in (7, 9, 15, 16, 18, 20)),
    )
}


def guess(text: str) -> Json:
    """Convert an element's text as Jettison does: to a typed value if that would be written back identically.

    This applies to integers up to a signed long, `true`/`false`, and decimals without trailing zeros, except that
    `1.0` becomes 1. `007`, `-0`, `1.50` and `1e5` stay strings.
    """
    if _INTEGER.fullmatch(text) and int(text) in _LONG:
        return int(text)
    if text in ("true", "false"):
        return text == "true"
    if _DECIMAL.fullmatch(text) and repr(float(text)) == text:
        number = float(text)
        return int(number) if number.is_integer() else number
    return text


def present(fields: Mapping[str, Json]) -> dict[str, Json]:
    """Omit null values, as JAXB does."""
    return {name: value for name, value in fields.items() if value is not None}


def one_or_many(name: str, items: Sequence[Json]) -> dict[str, Json]:
    """Return a list as JAXB and Jettison do: absent if empty, a single object for one item, otherwise an array."""
    if not items:
        return {}
    return {name: items[0] if len(items) == 1 else items}


def wrapped(name: str, items: Sequence[Json]) -> Json:
    """Return a list inside its wrapper element, which is an empty string if the list is empty."""
    return one_or_many(name, items) or ""


def through_gson(value: Json) -> Json:
    """Convert every number to a double, as Gson does when it reads into a `Map`."""
    if isinstance(value, Mapping):
        return {name: through_gson(member) for name, member in value.items()}
    if isinstance(value, str | bool | None):
        return value
    if isinstance(value, int | float):
        return float(value)
    return [through_gson(member) for member in value]


def _encode(value: Json) -> str:
    # The standard encoder cannot write a double as Java does (2.0150112345E10).
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(name)}:{_encode(item)}" for name, item in value.items()) + "}"
    if isinstance(value, float):
        return _java_double(value)
    if isinstance(value, str | bool | int | None):
        return json.dumps(value, ensure_ascii=False)
    return "[" + ",".join(map(_encode, value)) + "]"


def _java_double(number: float) -> str:
    """Format a double like `Double.toString`: plain from 0.001 to below 10 million, otherwise with an exponent."""
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return repr(number)
    sign, digits, _ = Decimal(repr(number)).normalize().as_tuple()
    fraction = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{fraction}E{Decimal(repr(number)).adjusted()}"
