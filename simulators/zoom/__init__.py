"""A Zoom account that can be scripted: its own process, API v2 and the token endpoint as Zoom answers them.

It has the quirks that a harvester has to live with (uuids that must be encoded twice, page tokens that end, windows
that are clamped, quotas by label, rows that come late), counts what it was asked, and knows the truth. Where Zoom's
behaviour is not known an option offers both readings, and the default is the one that is harder on a client.

    python -m simulators.zoom [--port 0] [OPTION ...]       prints "listening on http://127.0.0.1:PORT"

Calls count in the order in which they come; refused ones use up nothing, ones that a fault spoils do. Calls that the
gate refuses (401) are of no label. All answers past the gate bear the headers of the quota, unless these are off.

Token endpoint: `POST /oauth/token`; API: `/v2/...`. Options (`--help` tells all, with defaults):

    server    --port, --now ISO (what its clock says at the start)
    data      --seed, --date (the last day, default yesterday UTC), --days, --meetings (a day), --people, --live,
              --delay-seconds (until an ended meeting is visible)
    account   --plan free|pro|business, --dashboard on|off, --account-id, --client-id, --client-secret, --scope
              (repeatable), --token-seconds, --one-token on|off, --token-errors new|old, --jwt on|off,
              --gateway-header "Name: value" (asked for instead of any token)
    lists     --page-token-seconds, --page-overlap, --old-windows refused|empty
    quotas    --limit heavy=5/s | resource-intensive=10/2s | light=20/min | heavy=100/day (repeatable),
              --rate-window sliding|fixed, --rate-headers on|off, --retry-after iso|seconds, --day-ends-in SECONDS,
              --day-seconds
    trouble   --fault JSON (repeatable), --latency-ms

Control (JSON, no login; errors are 400 with `{"error": ...}`):

    GET    /_sim/                 what can be asked
    GET    /_sim/requests         {"labels": {label: calls, refused, refused_by_rate, refused_by_day, peak (most calls,
                                  refused ones too, in any stretch of the rate's length), limit, seconds, day_limit,
                                  day_left}}, "endpoints", "statuses" ("0": dropped), "meetings": {uuid: calls},
                                  "tokens": issued}
    POST   /_sim/reset-requests   forget these counts, not what is used up
    GET    /_sim/truth            ?from=DAY&to=DAY (by start, UTC; default: --date) &sessions=1: meetings with rows,
                                  distinct sessions (those of `sessions`: [participant_uuid, user_id, join ms]), people;
                                  sums; "least_calls" by endpoint
    POST   /_sim/meetings         make one: start (ISO), seconds, people, and any of uuid, id, topic, host (id or
                                  email), defective, delay_seconds, sessions (objects with members of `world.Session`)
    PATCH  /_sim/meetings         change the one of `uuid`: as above, and more_people
    DELETE /_sim/meetings         {"uuid"}
    POST   /_sim/faults           {"kind": status (HTML) | error (Zoom's JSON, "code") | slow | drop | truncate |
                                  invalid-json | bad-quotes | page-token, "endpoint": short name or any, "uuid",
                                  "status", "share", "times", "seconds"}
    DELETE /_sim/faults           drop all
    POST   /_sim/options          {"plan": "pro", "limit": ["heavy=5/s"], ...}: change options, written as above; not
                                  what the world was made of
    POST   /_sim/consume          {"label", "calls"}: use up quota as another app of the account does
    POST   /_sim/revoke           end all access tokens
    POST   /_sim/clock            {"offset_seconds"}: from the real clock; rates go by a clock that nobody sets

Short names of endpoints: token, meetings, meeting, participants, report-users, report-user-meetings, report-meeting,
report-participants, history, past-meeting, users, user-meetings.
"""
