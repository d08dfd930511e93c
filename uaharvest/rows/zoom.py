"""Meetings, participants and hosts, parsed from Zoom's responses.

A field is None if Zoom sent no usable value for it.
"""

import dataclasses
from datetime import datetime
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A tracking field or a custom key of a meeting."""

    name: str | None
    value: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MeetingRow:
    """A past meeting; no repr, because it names people.

    Attributes:
        uuid: The meeting's uuid. Zoom may send rows without one.
        id: The meeting number, which all meetings of a series share.
        host_id: The host's user id. Only the Report endpoints know it.
        host: The host's name.
        email: The host's e-mail address.
        start_time: UTC, as is `end_time`.
        duration: Seconds. The Report endpoints do not give it.
        participants: Number of participant rows that the meeting has, according to Zoom.
        has_pstn: Whether the meeting used this feature, as for all `has_` fields.
        state: Digest of the values that change when the participants change.
        raw: The row as received, with the Dashboard's field names; for dead letters.
    """

    uuid: str | None
    id: str | None
    topic: str | None
    host_id: str | None
    host: str | None
    email: str | None
    user_type: str | None
    dept: str | None
    start_time: datetime | None
    end_time: datetime | None
    duration: int | None
    participants: int | None
    in_room_participants: int | None
    has_pstn: bool | None
    has_voip: bool | None
    has_3rd_party_audio: bool | None
    has_video: bool | None
    has_screen_share: bool | None
    has_sip: bool | None
    has_archiving: bool | None
    has_manual_captions: bool | None
    has_automated_captions: bool | None
    has_poll: bool | None
    has_qa: bool | None
    has_survey: bool | None
    has_external_participant: bool | None
    has_recording: bool | None
    audio_quality: str | None
    video_quality: str | None
    screen_share_quality: str | None
    avg_jointime_cost: float | None
    tracking_fields: tuple[Pair, ...]
    custom_keys: tuple[Pair, ...]
    state: str
    raw: Any = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ParticipantRow:
    """One stay of a participant in a meeting; no repr, because it names people.

    Attributes:
        id: The user id of somebody who is signed in.
        user_id: The number of the participant within the meeting or breakout room.
        join_time: UTC, as is `leave_time`.
        bo_mtg_id: The breakout room.
        raw: The row as received, with the Dashboard's field names; for dead letters.
    """

    id: str | None
    user_id: str | None
    participant_uuid: str | None
    participant_user_id: str | None
    registrant_id: str | None
    customer_key: str | None
    user_name: str | None
    email: str | None
    role: str | None
    status: str | None
    join_time: datetime | None
    leave_time: datetime | None
    leave_reason: str | None
    bo_mtg_id: str | None
    ip_address: str | None
    location: str | None
    data_center: str | None
    network_type: str | None
    connection_type: str | None
    device: str | None
    client: str | None
    version: str | None
    os: str | None
    os_version: str | None
    browser_name: str | None
    browser_version: str | None
    audio_quality: str | None
    video_quality: str | None
    screen_share_quality: str | None
    share_application: bool | None
    share_desktop: bool | None
    share_whiteboard: bool | None
    recording: bool | None
    in_room_participants: int | None
    total_jointime_cost: float | None
    raw: Any = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class UserRow:
    """Somebody who hosted meetings; no repr, because it names a person."""

    id: str | None
    email: str | None
    name: str | None
