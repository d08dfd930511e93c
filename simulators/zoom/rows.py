"""The rows of each list; fields and units differ between endpoints for the same meeting."""

from datetime import UTC, datetime
from typing import Any

from simulators.zoom.world import Meeting, Person, Session, iso

Row = dict[str, Any]
_BIG, _UNREADY_MS = 300, 10 * 60_000


def clock_text(ms: int) -> str:
    """Format a duration as in the Dashboard: mm:ss, or hh:mm:ss with hours that may be 24 and more."""
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def dashboard_meeting(meeting: Meeting, now_ms: int, *, tracked: bool) -> Row:
    """Return a row of /metrics/meetings. `participants` counts rows; a live meeting has no end and no duration."""
    live = meeting.end_ms > now_ms
    seen = _seen(meeting, now_ms)
    bits = _bits(meeting)
    row: Row = {
        "uuid": meeting.uuid,
        "id": meeting.id,
        "topic": meeting.topic,
        "host": meeting.host.name,
        "email": meeting.host.email,
        "user_type": "Licensed" if meeting.host.licensed else "Basic",
        "dept": meeting.host.dept,
        "start_time": "" if meeting.defective else iso(meeting.start_ms),
        "participants": 0 if meeting.defective else len(seen),
        "in_room_participants": 0,
        "has_pstn": any(session.phone for session in seen),
        "has_voip": True,
        "has_3rd_party_audio": bits & 7 == 0,
        "has_video": bits & 3 != 0,
        "has_screen_share": any(session.share_application or session.share_desktop for session in seen),
        "has_recording": any(session.recording for session in seen),
        "has_sip": bits & 15 == 1,
        "has_archiving": False,
        "has_manual_captions": bits & 15 == 2,
        "has_automated_captions": bits & 15 == 3,
        "has_poll": bits & 15 == 4,
        "has_qa": False,
        "has_survey": False,
        "audio_quality": "" if bits & 15 == 5 else "good",
        "video_quality": "" if bits & 15 == 6 else "good",
        "screen_share_quality": "",
        "avg_jointime_cost": (bits & 1023) / 100,
        "session_key": "",
        "custom_keys": [],
    }
    if tracked:
        row["tracking_fields"] = [{"field": "Meeting purpose.", "value": "Support"}]
    if not live:
        row["end_time"] = "" if meeting.defective else iso(meeting.end_ms)
        row["duration"] = "" if meeting.defective else clock_text(meeting.end_ms - meeting.start_ms)
    return row


def dashboard_participant(session: Session, now_ms: int, *, live: bool, registered: bool) -> Row:
    """Return a row of /metrics/meetings/{id}/participants, which has no duration."""
    inside = bool(session.id)
    version = "6.2.5.48645" if session.client.startswith("Zoom") else ""
    row: Row = {
        "id": session.id,
        "user_id": session.user_id,
        "participant_uuid": session.participant_uuid,
        "participant_user_id": session.participant_user_id,
        "user_name": session.user_name,
        "email": session.email,
        "customer_key": "",
        "role": session.role,
        "device": session.device,
        "os": session.os,
        "os_version": "",
        "client": session.client,
        "browser_name": "Chrome" if session.device.startswith("Web") else "",
        "browser_version": "130" if session.device.startswith("Web") else "",
        "device_name": "",
        "version": version,
        "ip_address": session.ip_address,
        "internal_ip_addresses": ["192.0.2.1"] if inside else [],
        "location": session.location,
        "network_type": session.network_type,
        "data_center": "United States (SC Top)",
        "full_data_center": "United States (SC Top);",
        "connection_type": "UDP",
        "video_connection_type": "UDP",
        "as_connection_type": "",
        # The hardware of external participants has been hidden since 2023.
        "camera": "FaceTime HD Camera" if inside else "",
        "microphone": "Microphone (High Definition Audio Device)" if inside else "",
        "speaker": "Speaker (High Definition Audio Device)" if inside else "",
        "pc_name": f"PC-{session.user_id}" if inside else "",
        "domain": "example.com" if inside else "",
        "mac_addr": "00-00-5e-00-53-01" if inside else "",
        "harddisk_id": "",
        "join_time": iso(session.join_ms),
        "leave_reason": session.leave_reason,
        "share_application": session.share_application,
        "share_desktop": session.share_desktop,
        "share_whiteboard": session.share_whiteboard,
        "recording": session.recording,
        "status": session.status,
        "audio_quality": session.quality,
        "video_quality": session.quality,
        "screen_share_quality": "",
        "bo_mtg_id": session.bo_mtg_id,
        "in_room_participants": 1,
        "sip_uri": "",
        "from_sip_uri": "",
        "groupId": "",
        "optional_archiving": "",
        "aic_disclaimer": "",
        "zoom_thin_client_plugin_version": "",
        "has_archiving": False,
        "total_jointime_cost": 3.98,
        "audio_call": _calls(session),
    }
    if registered:
        row["registrant_id"] = session.registrant_id
    # In a live meeting, absent until the person has left.
    if not live or (session.leave_ms is not None and session.leave_ms <= now_ms):
        row["leave_time"] = _time(session.leave_ms)
    else:
        row["leave_reason"] = ""
    return row


def report_participant(session: Session, meeting: Meeting, now_ms: int) -> Row:
    """Return a row of /report/meetings/{id}/participants: seconds, other field names, no address, device or place.

    Durations in big meetings are 0 at first.
    """
    unready = len(meeting.sessions) > _BIG and now_ms - meeting.end_ms < _UNREADY_MS
    leave_ms = session.join_ms if session.leave_ms is None or unready else session.leave_ms
    return {
        "id": session.id,
        "user_id": session.user_id,
        "name": session.user_name,
        "user_email": session.email,
        "participant_user_id": session.participant_user_id,
        "registrant_id": session.registrant_id,
        "customer_key": "",
        "join_time": iso(session.join_ms),
        "leave_time": _time(session.leave_ms),
        "duration": (leave_ms - session.join_ms) // 1000,
        "failover": False,
        "status": session.status,
        "bo_mtg_id": session.bo_mtg_id,
    }


def report_user_meeting(meeting: Meeting) -> Row:
    """Return a row of /report/users/{id}/meetings: minutes, and some times in a different format."""
    return {
        **_report(meeting),
        "participants_count_my_account": sum(bool(session.id) for session in meeting.sessions),
        "source": "Zoom",
        "session_key": "",
        "custom_keys": [],
        "host_name": meeting.host.name,
        "host_organization": "Example University",
        "has_recording": any(session.recording for session in meeting.sessions),
        "has_chat": False,
        "has_screen_share": any(session.share_desktop for session in meeting.sessions),
        "meeting_encryption_status": 1,
        "schedule_time": _american(meeting.start_ms),
        "join_waiting_room_time": "",
        "join_time": _american(meeting.start_ms),
        "leave_time": _american(meeting.end_ms),
    }


def report_meeting(meeting: Meeting) -> Row:
    """Return the response of /report/meetings/{id}."""
    return {
        **_report(meeting),
        "dept": meeting.host.dept,
        "tracking_fields": [],
        "custom_keys": [],
    }


def past_meeting(meeting: Meeting) -> Row:
    """Return the response of /past_meetings/{id}, the only one with the host's id."""
    return {
        **_report(meeting),
        "host_id": meeting.host.id,
        "dept": meeting.host.dept,
        "source": "Zoom",
        "has_meeting_summary": False,
    }


def history_meeting(meeting: Meeting) -> Row:
    """Return a row of /report/history_meetings."""
    return {
        "meeting_uuid": meeting.uuid,
        "meeting_id": meeting.id,
        "type": "Meeting",
        "host_display_name": meeting.host.name,
        "host_email": meeting.host.email,
        "start_time": iso(meeting.start_ms),
        "end_time": iso(meeting.end_ms),
        "topic": meeting.topic,
        "participants": len(meeting.sessions),
        "duration": _minutes(meeting.end_ms - meeting.start_ms),
        "total_participant_minutes": _minutes(_stayed(meeting)),
        "department": meeting.host.dept,
        "group": [],
        "source": "Zoom",
        "unique_viewers": 0,
        "max_concurrent_views": 0,
        "create_time": iso(meeting.start_ms),
        "custom_fields": [],
        "tracking_fields": [],
        "feature_used": {"screen_sharing": False, "video_on": True, "recording_to_cloud": False},
    }


def report_user(person: Person, hosted: list[Meeting]) -> Row:
    """Return a row of /report/users."""
    return {
        "id": person.id,
        "email": person.email,
        "user_name": person.name,
        "type": 2 if person.licensed else 1,
        "dept": person.dept,
        "meetings": len(hosted),
        "participants": sum(len(meeting.sessions) for meeting in hosted),
        "meeting_minutes": sum(_minutes(meeting.end_ms - meeting.start_ms) for meeting in hosted),
        "custom_attributes": [],
    }


def user(person: Person) -> Row:
    """Return a row of /users."""
    first, _, last = person.name.partition(" ")
    return {
        "id": person.id,
        "first_name": first,
        "last_name": last,
        "display_name": person.name,
        "email": person.email,
        "type": 2 if person.licensed else 1,
        "pmi": person.pmi,
        "timezone": "America/New_York",
        "verified": 1,
        "dept": person.dept,
        "created_at": "2020-01-15T12:00:00Z",
        "status": "active",
        "language": "en-US",
    }


def scheduled_meeting(meeting: Meeting) -> Row:
    """Return a row of /users/{id}/meetings: the schedule, in minutes, not what took place."""
    return {
        "uuid": meeting.uuid,
        "id": meeting.id,
        "host_id": meeting.host.id,
        "topic": meeting.topic,
        "type": meeting.type,
        "start_time": iso(meeting.start_ms),
        "duration": 60,
        "timezone": "America/New_York",
        "agenda": "",
        "created_at": "2026-01-15T12:00:00Z",
        "join_url": f"https://zoom.example/j/{meeting.id}",
        "pmi": str(meeting.host.pmi),
    }


def participant_rows(meeting: Meeting, now_ms: int) -> list[Session]:
    """Return a meeting's rows so far, in the order of joining."""
    return sorted(_seen(meeting, now_ms), key=lambda session: (session.join_ms, session.person))


def _bits(meeting: Meeting) -> int:
    """Return pseudo-random bits that are constant for a meeting."""
    return int.from_bytes(meeting.uuid.encode()[:6], "big") * 0x9E3779B1 >> 7


def _seen(meeting: Meeting, now_ms: int) -> list[Session]:
    return [session for session in meeting.sessions if session.join_ms <= now_ms]


def _report(meeting: Meeting) -> Row:
    return {
        "uuid": meeting.uuid,
        "id": meeting.id,
        "topic": meeting.topic,
        "type": meeting.type,
        "start_time": iso(meeting.start_ms),
        "end_time": iso(meeting.end_ms),
        "duration": _minutes(meeting.end_ms - meeting.start_ms),
        "total_minutes": _minutes(_stayed(meeting)),
        "participants_count": len(meeting.sessions),
        "user_email": meeting.host.email,
        "user_name": meeting.host.name,
    }


def _stayed(meeting: Meeting) -> int:
    return sum(session.leave_ms - session.join_ms for session in meeting.sessions if session.leave_ms is not None)


def _calls(session: Session) -> list[Row]:
    if not session.phone:
        return []
    return [{"call_number": session.phone, "call_type": "call-in", "zoom_number": "12025550199"}]


def _time(ms: int | None) -> str:
    return "" if ms is None else iso(ms)


def _minutes(ms: int) -> int:
    return -(-ms // 60_000)


def _american(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%m/%d/%Y %H:%M")
