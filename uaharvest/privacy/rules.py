"""Every field of every record and document: what it holds, what it is for, and what is done to it.

The rules are applied from these tables, and docs/privacy-record.md is made from them. A test fails if a document has a
field that is not here.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Literal

from uaharvest.documents.indices import Family


class Treatment(enum.StrEnum):
    """What is done to a field, in words for the record of processing."""

    PERSON = "pseudonym (`PRIVACY_PSEUDONYMS`)"
    ADDRESS = "/24 or /48, or left out (`PRIVACY_ADDRESS`)"
    PLACE = "kept; the address in it as `ip`"
    AGENT = "family, or left out (`PRIVACY_AGENT`)"
    VERSION = "left out (`PRIVACY_AGENT` other than full)"
    TYPE = "its free text left out (`PRIVACY_PSEUDONYMS`, `PRIVACY_TYPES`)"
    REASON = "left out unless it is one of Zoom's fixed texts (`PRIVACY_PSEUDONYMS`)"
    TEXT = "pseudonyms in place of the host's name, e-mail address and id (`PRIVACY_PSEUDONYMS`)"
    PLAIN = "kept"


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """The rule of some fields.

    Attributes:
        names: The fields; a dot separates a field from its object's.
        kind: What is done to them.
        holds: What they hold.
        why: What that is needed for.
    """

    names: Sequence[str]
    kind: Treatment
    holds: str
    why: str


# The families of documents, and the rows of sources that dead letters hold.
RuleTable = Family | Literal["meeting row", "participant row"]

_WHO = "attendance by person; matching with rolls"
_WHERE = "attendance by place; finding faults of networks"
_BROWSERS = "finding faults of players"
_WATCHED = "which parts of a recording are watched"
_TRUST = "how far the figures can be trusted"
_SUPPORT = "finding faults of calls"
_USE = "which features are used"

USERACTIONS = (
    Rule(["action_id"], Treatment.PLAIN, "Opencast's number of the row", "each row once"),
    Rule(["timestamp", "@timestamp", "created"], Treatment.PLAIN, "when it happened", _WATCHED),
    Rule(["mpid"], Treatment.PLAIN, "id of the recording", _WATCHED),
    Rule(["session_id"], Treatment.PERSON, "the viewer's HTTP session", "telling viewers without a login apart"),
    Rule(["huid"], Treatment.PERSON, "the viewer's login", _WHO),
    Rule(["ip", "hostname", "proxy<n>"], Treatment.ADDRESS, "the viewer's address, and those of proxies", _WHERE),
    Rule(["geoip"], Treatment.PLACE, "country, region, city, postal code, position of the address", _WHERE),
    Rule(["useragent", "ua"], Treatment.AGENT, "the viewer's browser, system and device", _BROWSERS),
    Rule(["action.type"], Treatment.TYPE, "what the viewer did", _WATCHED),
    Rule(
        [f"action.{name}" for name in ("inpoint", "outpoint", "length", "is_playing")],
        Treatment.PLAIN,
        "where in the recording",
        _WATCHED,
    ),
    Rule(["is_live", "is_live_inferred"], Treatment.PLAIN, "whether it was watched live", _WATCHED),
    Rule(
        [
            f"episode.{name}"
            for name in (
                *("title", "duration", "start", "course", "series"),
                *("year", "term", "cdn", "type", "description"),
            )
        ],
        Treatment.PLAIN,
        "the recording's metadata, which may name its lecturers",
        _WATCHED,
    ),
)

EPISODES = (
    Rule(
        [
            *(
                "mpid",
                "title",
                "duration",
                "start",
                "course",
                "series",
                "year",
                "term",
                "crn",
                "type",
                "description",
            ),
            *("presenter_still", "presentation_still", "slides.img", "slides.time"),
            *("live_stream", "live_start", "live_end", "live_duration", "available"),
        ],
        Treatment.PLAIN,
        "the recording's metadata, which may name its lecturers; no viewer",
        "names, pictures and times of recordings",
    ),
)

MEETINGS = (
    Rule(
        ["uuid", "meeting_series_id"],
        Treatment.PLAIN,
        "ids of the meeting; a personal room's is its host's",
        "joins",
    ),
    Rule(["topic"], Treatment.TEXT, "the topic, which may name people", "names of meetings"),
    Rule(["host.host_id", "host.name", "host.email"], Treatment.PERSON, "the host", "meetings by host"),
    Rule(["host.user_type"], Treatment.PLAIN, "the host's licence", "licences"),
    Rule(["dept"], Treatment.TEXT, "the host's department", "meetings by department"),
    Rule(
        ["tracking_fields.field", "custom_keys.key"],
        Treatment.PLAIN,
        "names of fields that the account or its apps define",
        "joins",
    ),
    Rule(
        ["tracking_fields.value", "custom_keys.value"],
        Treatment.TEXT,
        "values that the account or its apps give them",
        "joins",
    ),
    Rule(["start_time", "end_time", "duration"], Treatment.PLAIN, "when it took place", "use of Zoom"),
    Rule(
        [
            *("participant_sessions", "in_room_participants", "unique_participants", "person_seconds"),
            *("peak_participants", "waiting_room_sessions", "breakout_sessions"),
        ],
        Treatment.PLAIN,
        "numbers of participants",
        "attendance",
    ),
    Rule(["erased_sessions"], Treatment.PLAIN, "how many sessions of erased people are left out", "audits"),
    Rule(
        [
            *("has_pstn", "has_voip", "has_3rd_party_audio", "has_video", "has_screen_share", "has_sip"),
            *("has_archiving", "has_manual_captions", "has_automated_captions", "has_poll", "has_qa"),
            *("has_survey", "has_external_participant", "recording"),
        ],
        Treatment.PLAIN,
        "what was used in it",
        _USE,
    ),
    Rule(
        ["audio_quality", "video_quality", "screen_share_quality", "avg_jointime_cost"],
        Treatment.PLAIN,
        "its quality",
        _SUPPORT,
    ),
)

SESSIONS = (
    Rule(["meeting"], Treatment.PLAIN, "uuid of the meeting", "joins"),
    Rule(
        ["id", "participant_user_id", "registrant_id", "participant_uuid", "customer_key"],
        Treatment.PERSON,
        "ids of the participant, at Zoom and at apps",
        _WHO,
    ),
    Rule(["user_name", "email"], Treatment.PERSON, "the participant's name and e-mail address", _WHO),
    Rule(
        ["user_id", "bo_mtg_id"],
        Treatment.PLAIN,
        "number of the participant in the room, and the room",
        "each stay once",
    ),
    Rule(["ip_address"], Treatment.ADDRESS, "the participant's address", _WHERE),
    Rule(["geoip"], Treatment.PLACE, "country, region, city, postal code, position of the address", _WHERE),
    Rule(["location", "city", "country"], Treatment.PLAIN, "the place according to Zoom", _WHERE),
    Rule(
        ["device", "client", "os", "browser_name"],
        Treatment.AGENT,
        "the participant's app, system and device",
        _SUPPORT,
    ),
    Rule(["version", "os_version", "browser_version"], Treatment.VERSION, "versions of these", _SUPPORT),
    Rule(["network_type", "connection_type", "data_center"], Treatment.PLAIN, "kind of the connection", _SUPPORT),
    Rule(
        ["audio_quality", "video_quality", "screen_share_quality", "total_jointime_cost"],
        Treatment.PLAIN,
        "quality of the call",
        _SUPPORT,
    ),
    Rule(["join_time", "leave_time", "duration"], Treatment.PLAIN, "when the participant was there", "attendance"),
    Rule(["leave_reason"], Treatment.REASON, "why the participant left", _SUPPORT),
    Rule(["role", "status"], Treatment.PLAIN, "host or attendee; whether in the waiting room", "attendance"),
    Rule(
        ["waiting_room", "breakout_room", "in_room_participants"],
        Treatment.PLAIN,
        "kind of the stay",
        "attendance",
    ),
    Rule(
        ["share_application", "share_desktop", "share_whiteboard", "recording"],
        Treatment.PLAIN,
        "what the participant used",
        _USE,
    ),
)

# Derived from protected documents, so nothing is done to them once more.
_RECORDING = Rule(
    ["mpid", "series", "title", "duration_s"],
    Treatment.PLAIN,
    "the recording's metadata, which may name its lecturers",
    _WATCHED,
)

VIEWINGS = (
    Rule(["viewer", "huid"], Treatment.PERSON, "the viewer's login, or session", _WHO),
    _RECORDING,
    Rule(["@timestamp", "first", "last", "sittings"], Treatment.PLAIN, "when the viewer watched it", _WATCHED),
    Rule(
        ["seen_s", "coverage", "watched_s", "again_s", "furthest_s", "intervals", "played"],
        Treatment.PLAIN,
        "what the viewer watched of it",
        _WATCHED,
    ),
    Rule(["live_s", "stays"], Treatment.PLAIN, "when the viewer was at the live stream", "attendance"),
    Rule(["evidence"], Treatment.PLAIN, "kinds of useractions that this is known from", _TRUST),
)

RECORDINGS = (
    _RECORDING,
    Rule(["@timestamp", "start"], Treatment.PLAIN, "when it was recorded, and last watched", _WATCHED),
    Rule(
        [
            *("viewers", "anonymous", "mean_coverage", "median_coverage"),
            *("bin_s", "views", "retention", "concurrency"),
        ],
        Treatment.PLAIN,
        "numbers of viewers; small ones may point to a person",
        _WATCHED,
    ),
)

ATTENDANCE = (
    Rule(["uuid", "meeting_id"], Treatment.PLAIN, "ids of the meeting; a personal room's is its host's", "joins"),
    Rule(["topic"], Treatment.TEXT, "the topic, which may name people", "names of meetings"),
    Rule(["host_id"], Treatment.PERSON, "the host", "meetings by host"),
    Rule(["person", "user_id", "registrant_id"], Treatment.PERSON, "ids of the participant", _WHO),
    Rule(["user_email", "user_name"], Treatment.PERSON, "the participant's name and e-mail address", _WHO),
    Rule(["@timestamp", "start", "end"], Treatment.PLAIN, "when the meeting took place", "attendance"),
    Rule(
        ["joined", "left", "minutes", "share", "late_minutes", "early_minutes", "sessions", "stays"],
        Treatment.PLAIN,
        "when the participant was there",
        "attendance",
    ),
)

# Rows as Zoom sends them differ from documents in these fields.
MEETING_ROW = (
    *(rule for rule in MEETINGS if not any(name.startswith("host.") for name in rule.names)),
    Rule(["host_id", "host", "email"], Treatment.PERSON, "the host", "meetings by host"),
    Rule(["id", "user_type", "participants", "has_recording"], Treatment.PLAIN, "as in documents", _TRUST),
)

TABLES: Mapping[RuleTable, Sequence[Rule]] = {
    "useractions": USERACTIONS,
    "episodes": EPISODES,
    "meetings": MEETINGS,
    "sessions": SESSIONS,
    "viewings": VIEWINGS,
    "recordings": RECORDINGS,
    "attendance": ATTENDANCE,
    "meeting row": MEETING_ROW,
    "participant row": SESSIONS,
}

Nested = Mapping[str, "Treatment | Nested"]


def nested(rules: Sequence[Rule]) -> Nested:
    """Return the kind of each field by its name; the fields of an object are a mapping of their own."""
    found: dict[str, Treatment | Nested] = {}
    for rule in rules:
        for name in rule.names:
            owner, dot, member = name.partition(".")
            if not dot:
                found[name] = rule.kind
                continue
            members = found.setdefault(owner, {})
            if isinstance(members, dict):
                members[member] = rule.kind
    return found
