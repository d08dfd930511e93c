"""Applies the rules to what leaves a worker: useractions, records, documents, and the rows that dead letters hold."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from uaharvest.coerce import text
from uaharvest.documents.indexed import Locate
from uaharvest.documents.session import REASONS
from uaharvest.documents.useraction import AS_IT_IS, Viewer, Writers, viewer_as_it_is, write_text
from uaharvest.privacy import agents
from uaharvest.privacy.addresses import truncated
from uaharvest.privacy.events import Types
from uaharvest.privacy.people import NO_ONE, Erased
from uaharvest.privacy.pseudonyms import PseudonymKey, Pseudonyms
from uaharvest.privacy.rules import TABLES, Nested, RuleTable, Treatment, nested
from uaharvest.rows.zoom import MeetingRow, ParticipantRow

REMEMBERED = 20_000  # addresses, and addresses with browsers
VIEWERS = 10_000  # sessions; a busy evening has fewer at once
TYPES = 256  # of useractions
SHORTEST_NAME = 3  # shorter ones are not searched for in texts
WITHHELD = "withheld"  # the member of a dead letter that says why there is nothing else

_PROXY = re.compile(r"proxy\d+")
_MEETING_ROW = frozenset(field.name for field in dataclasses.fields(MeetingRow)) - {"raw", "state"}
_PARTICIPANT_ROW = frozenset(field.name for field in dataclasses.fields(ParticipantRow)) - {"raw"}
# The members of a row of `actions.json` that are read; those of the session may stand in the row itself.
_OF_SESSION = ("sessionId", "userId", "userIp", "userAgent")
_OF_ACTION = (
    "id",
    "created",
    "mediapackageId",
    "type",
    "inpoint",
    "outpoint",
    "length",
    "isPlaying",
    *_OF_SESSION,
)
_TABLES: Mapping[RuleTable, Nested] = {table: nested(rules) for table, rules in TABLES.items()}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a site has chosen.

    Attributes:
        keys: The keys of pseudonyms, the newest first; none: no pseudonyms.
        address: full, truncated or none.
        agent: full, family or none.
        types: Further types of useractions whose names are stored.
        anonymous: User ids that stand for nobody.
    """

    keys: Sequence[PseudonymKey] = ()
    address: str = "full"
    agent: str = "full"
    types: Sequence[str] = ()
    anonymous: Sequence[str] = ()

    @property
    def pseudonyms(self) -> Pseudonyms | None:
        """Return what makes the pseudonyms; None if there are none."""
        return Pseudonyms(self.keys, self.anonymous) if self.keys else None

    @property
    def is_on(self) -> bool:
        """Tell whether anything is changed at all."""
        return bool(self.keys) or self.address != "full" or self.agent != "full"

    def report(self) -> dict[str, Any]:
        """Return it in the form of `status --json`; `words` is a line for a person."""
        return {
            "pseudonyms": [key.id for key in self.keys],
            "address": self.address,
            "agent": self.agent,
            "words": str(self),
        }

    def __str__(self) -> str:
        if not self.is_on:
            return "off: logins, sessions, names, addresses and browsers are stored as they are"
        ids = [key.id for key in self.keys]
        also = f" (older: {', '.join(ids[1:])})" if ids[1:] else ""
        names = f"pseudonyms by key {ids[0]}{also}" if ids else "no pseudonyms"
        return f"{names} · addresses {self.address} · browsers {self.agent}"


class Protection:
    """Protects personal data as a site has chosen. What is protected already stays the same.

    Args:
        choice: What is done.
        locate: Returns the `geoip` fields of an address; used before the address is cut or left out.
        erased: The people about whom nothing may be stored. Whatever delivers rows leaves theirs out.
    """

    def __init__(self, choice: Choice, locate: Locate, erased: Erased = NO_ONE) -> None:
        self.choice = choice
        self.erased = erased
        self.is_on = choice.is_on
        pseudonyms = choice.pseudonyms
        self._pseudonym: Callable[[str], str] = pseudonyms.of if pseudonyms else _same
        self._type: Callable[[str], str | None] = Types(choice.types).of if choice.keys else _same
        self._address: Callable[[str], str | None] = lru_cache(REMEMBERED)(self._cut)
        self._locate = locate
        derives = choice.address != "full" or choice.agent == "family"
        self._more: Callable[[str | None, str | None], str] = (
            lru_cache(REMEMBERED)(self._derived) if derives else _nothing
        )
        # Cached, because they run for each useraction, and all rows of a session have the same viewer.
        protecting = Writers(lru_cache(VIEWERS)(self._write_viewer), lru_cache(TYPES)(self._write_type))
        self.writers = protecting if self.is_on else AS_IT_IS
        # Rebinding is cheaper than a test in each call, and there are millions.
        self._kinds: Mapping[Treatment, Callable[[Any], Any]] = {
            Treatment.PERSON: self._person,
            Treatment.ADDRESS: self._any_address,
            Treatment.PLACE: self._place,
            Treatment.AGENT: self._client,
            Treatment.VERSION: lambda value: value if choice.agent == "full" else None,
            Treatment.TYPE: lambda value: self._type(value) if isinstance(value, str) else None,
            Treatment.REASON: lambda value: (
                value if not choice.keys or (isinstance(value, str) and value in REASONS) else None
            ),
            Treatment.TEXT: _same,  # see `_without_names`
            Treatment.PLAIN: _same,
        }

    # Useractions

    def _write_viewer(self, viewer: Viewer) -> tuple[str, str, str]:
        """Return the members of a viewer, protected; see `documents.useraction.Writers`.

        The third piece has `geoip` if the address is cut, because nobody else can locate it later, and `ua` in place of
        the user agent.
        """
        mpid, session, user, ip, proxies, agent = viewer
        pseudonym, address = self._pseudonym, self._address
        more = self._more(ip, agent)
        who, addresses, _ = viewer_as_it_is(
            (
                mpid,
                None if session is None else pseudonym(session),
                None if user is None else pseudonym(user),
                None if ip is None else address(ip),
                tuple(filter(None, map(address, proxies))),
                agent if self.choice.agent == "full" else None,
            )
        )
        return who, addresses, f",{more}" if more else ""

    def _write_type(self, type_: str | None) -> str:
        return write_text(None if type_ is None else self._type(type_))

    def session(self, session: str | None) -> str | None:
        """Return the pseudonym of a session."""
        return None if session is None else self._pseudonym(session)

    def id(self, identity: str) -> str:
        """Return the pseudonym of an id or name of a person."""
        return self._pseudonym(identity)

    def raw_action(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row of `actions.json` for a dead letter: only members that are read, protected."""
        kept = {name: raw[name] for name in _OF_ACTION if name in raw}
        nested = kept.get("sessionId")
        if isinstance(nested, dict):
            kept["sessionId"] = self._raw_session({name: nested[name] for name in _OF_SESSION if name in nested})
        elif self.is_on:
            kept = self._raw_session(kept)
        if self.is_on:
            kept = {name: value for name, value in kept.items() if name == "sessionId" or _is_scalar(value)}
            if isinstance(kept.get("type"), str):
                kept["type"] = self._type(kept["type"])
        return kept

    def _raw_session(self, session: dict[str, Any]) -> dict[str, Any]:
        if not self.is_on:
            return session
        if self.choice.agent != "full":
            session.pop("userAgent", None)
        for name in ("sessionId", "userId"):
            if name in session:
                session[name] = self._person(session[name])
        if "userIp" in session and self.choice.address != "full":
            given = session["userIp"]
            kept = map(self._address, given.split(",")) if isinstance(given, str) else ()
            session["userIp"] = ", ".join(filter(None, kept)) or None
        return session

    def more_of(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the further members of the record of a row, which its dead letter has to keep."""
        nested = raw.get("sessionId")
        session = nested if isinstance(nested, dict) else raw
        ip, agent = session.get("userIp"), session.get("userAgent")
        first = ip.partition(",")[0].strip() if isinstance(ip, str) else None
        found: dict[str, Any] = json.loads(f"{{{self._more(first, agent if isinstance(agent, str) else None)}}}")
        return found

    def _derived(self, ip: str | None, agent: str | None) -> str:
        """Return the members that are derived from what is left out."""
        more: dict[str, Any] = {}
        if ip and self.choice.address != "full" and (place := self._locate(ip)):
            more["geoip"] = self._place(place)
        if agent and self.choice.agent == "family":
            more["ua"] = agents.family(agent)
        return json.dumps(more, separators=(",", ":"))[1:-1]

    # Records and documents

    def record(self, record: Any) -> Any:
        """Return a record of a queue message, or the body of a document of a useraction, protected.

        Anything but an object is returned as it is; `documents.indexed.document` refuses it.
        """
        if not self.is_on or not isinstance(record, dict):
            return record
        kept = self.fields("useractions", record)
        agent, ip = kept.pop("useragent", None), record.get("ip")
        if self.choice.agent == "full" and agent is not None:
            kept["useragent"] = agent
        agent = record.get("useragent")
        more = json.loads(
            f"{{{self._more(ip if isinstance(ip, str) else None, agent if isinstance(agent, str) else None)}}}"
        )
        return {**more, **kept}

    def kept(self, record: Any) -> Any:
        """Return a record, or a document as elasticdump writes it, for a dead letter."""
        if not self.is_on:
            return record
        if not isinstance(record, dict):
            return None
        source = record.get("_source")
        if isinstance(source, dict):
            return {"_id": record.get("_id"), "_source": self.record(source)}
        return self.record(record)

    def fields(self, table: RuleTable, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a document, or of a row, protected; what is in none of the rules is left out."""
        if not self.is_on:
            return dict(fields)
        kept = self._by_rules(_TABLES[table], fields)
        return self._without_names(fields, kept) if "meeting" in table else kept

    def participant_row(self, raw: Any) -> Any:
        """Return a row of a participant for a dead letter, without what documents leave out."""
        return self._row("participant row", _PARTICIPANT_ROW, raw)

    def meeting_row(self, raw: Any) -> Any:
        """Return a row of a meeting for a dead letter, without what documents leave out."""
        return self._row("meeting row", _MEETING_ROW, raw)

    def unreadable(self, body: str) -> dict[str, Any]:
        """Return the payload of a dead letter for a text that cannot be read.

        If anything is protected, the text is withheld, because nobody can tell what in it is personal.
        """
        if not self.is_on:
            return {"body": body}
        return {WITHHELD: f"{len(body):,} characters that cannot be read may hold personal data."}

    def _row(self, table: RuleTable, names: frozenset[str], raw: Any) -> Any:
        if isinstance(raw, dict):
            return self.fields(table, {name: value for name, value in raw.items() if name in names})
        return None if self.is_on else raw

    def _by_rules(self, rules: Nested, fields: Mapping[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, value in fields.items():
            rule = rules.get(name)
            if rule is None and _PROXY.fullmatch(name):
                rule = rules.get("proxy<n>")
            if rule is None:
                continue
            if value is None:
                kept[name] = None
            elif isinstance(rule, Treatment):
                protected = self._kinds[rule](value)
                if protected is not None:
                    kept[name] = protected
            elif isinstance(value, Mapping):
                kept[name] = self._by_rules(rule, value)
            elif isinstance(value, list):
                kept[name] = [self._by_rules(rule, one) for one in value if isinstance(one, Mapping)]
        return kept

    def _without_names(self, fields: Mapping[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
        """Replace the host in the texts of a meeting: Zoom itself suggests topics such as "Ann's Zoom Meeting"."""
        if not self.choice.keys:
            return kept
        host = fields.get("host")
        given = host.values() if isinstance(host, Mapping) else (host, fields.get("host_id"), fields.get("email"))
        names = [one.strip() for one in given if isinstance(one, str) and len(one.strip()) >= SHORTEST_NAME]
        if not names:
            return kept
        pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))), re.IGNORECASE)
        by_name = {name.casefold(): self._pseudonym(name) for name in names}

        def clear(value: Any) -> Any:
            if not isinstance(value, str):
                return value
            return pattern.sub(lambda match: by_name.get(match[0].casefold(), ""), value)

        for name in ("topic", "dept"):
            if name in kept:
                kept[name] = clear(kept[name])
        for name in ("tracking_fields", "custom_keys"):
            for pair in kept.get(name) or ():
                pair["value"] = clear(pair.get("value"))
        return kept

    def _person(self, value: Any) -> str | None:
        name = value if isinstance(value, str) else text(value)  # Opencast turns ids of digits into numbers
        return None if name is None else self._pseudonym(name)

    def _any_address(self, value: Any) -> str | None:
        return self._address(value) if isinstance(value, str) else None

    def _cut(self, address: str) -> str | None:
        if self.choice.address == "full":
            return address
        return truncated(address) if self.choice.address == "truncated" else None

    def _place(self, place: Any) -> dict[str, Any] | None:
        if not isinstance(place, Mapping):
            return None
        kept = {name: value for name, value in place.items() if name != "ip"}
        address = self._any_address(place.get("ip"))
        return {"ip": address, **kept} if address else kept

    def _client(self, value: Any) -> Any:
        if self.choice.agent == "full":
            return value
        if self.choice.agent == "none":
            return None
        if isinstance(value, Mapping):
            return agents.family_of(value)
        return agents.without_versions(value) if isinstance(value, str) else None


def _same(value: Any) -> Any:
    return value


def _nothing(_: str | None, __: str | None) -> str:
    return ""


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _nowhere(_: str) -> None:
    return None


OFF = Protection(Choice(), _nowhere)
