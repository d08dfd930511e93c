"""A person who occurs nowhere else, and rows of every source that name them."""

from datetime import UTC, datetime

LOGIN = "zq-planted-login"
EMAIL = "Zq.Planted@Example.edu"
NAME = "Zquinta Plantedname"
ADDRESS = "203.0.113.77"
PROXY = "2001:db8:7777:1234::77"
SESSION = "zqplantedsession0node77"
ZOOM_ID = "zqPlantedZoomId77"
MAC = "7a:7a:7a:77:77:77"
AGENT = "Mozilla/5.0 (Linux; Android 14; ZQ-PLANTED-PHONE) AppleWebKit/537.36 Chrome/126.0.7777.77 Mobile Safari/537.36"
TERM = "zqplantedterm"
IDENTITIES = (LOGIN, EMAIL, NAME, SESSION, ZOOM_ID, MAC, TERM)
EVERYTHING = (*IDENTITIES, ADDRESS, PROXY, "ZQ-PLANTED-PHONE", "126.0.7777")

AT = datetime(2026, 11, 17, 10, tzinfo=UTC)


def action(number, **changes):
    """Return a row of `actions.json` of theirs."""
    row = {
        "id": number,
        "created": "2026-11-17T10:00:00+00:00",
        "mediapackageId": "lecture",
        "sessionId": {
            "sessionId": SESSION,
            "userId": LOGIN,
            "userIp": f"{ADDRESS}, {PROXY}",
            "userAgent": AGENT,
        },
        "type": f"SEARCH-{TERM}",
        "inpoint": 1,
        "outpoint": 2,
        "length": 1,
        "isPlaying": 1,
    }
    return row | changes


def participant(**changes):
    """Return a row of a participant as Zoom's Dashboard shows it."""
    row = {
        "id": ZOOM_ID,
        "user_id": "16778240",
        "participant_uuid": f"uuid-{ZOOM_ID}",
        "participant_user_id": ZOOM_ID,
        "registrant_id": f"registrant-{ZOOM_ID}",
        "customer_key": LOGIN,
        "user_name": NAME,
        "email": EMAIL,
        "ip_address": ADDRESS,
        "internal_ip_addresses": [ADDRESS],
        "location": "Boston (US)",
        "device": "win 11 126.0.7777",
        "device_name": f"{NAME}'s laptop",
        "pc_name": f"PC of {LOGIN}",
        "mac_addr": MAC,
        "harddisk_id": MAC,
        "sip_uri": EMAIL,
        "client": "Zoom 126.0.7777",
        "version": "126.0.7777",
        "os_version": "126.0.7777",
        "join_time": "2026-11-17T10:00:00Z",
        "leave_time": "2026-11-17T11:00:00Z",
        "leave_reason": f"{NAME} ({EMAIL}) left the meeting.<br>Reason: {NAME} was tired.",
        "status": "in_meeting",
    }
    return row | changes


def meeting(uuid="uuid==", **changes):
    """Return a row of a meeting that they hosted, as Zoom's Dashboard shows it."""
    row = {
        "uuid": uuid,
        "id": 93201235621,
        "topic": f"{NAME}'s Zoom Meeting",
        "host": NAME,
        "email": EMAIL,
        "host_id": ZOOM_ID,
        "dept": f"Group of {NAME.lower()}",
        "start_time": "2026-11-17T10:00:00Z",
        "end_time": "2026-11-17T11:00:00Z",
        "duration": "01:00:00",
        "participants": 1,
        "tracking_fields": [{"field": "Owner", "value": EMAIL.lower()}],
        "custom_keys": [{"key": "who", "value": NAME}],
    }
    return row | changes


def found(haystack, needles):
    """Return which of the needles occur, however they are written."""
    if isinstance(haystack, str):
        haystack = haystack.encode("utf-8", "surrogatepass")
    lower = haystack.lower()
    return [needle for needle in needles if needle.lower().encode() in lower]
