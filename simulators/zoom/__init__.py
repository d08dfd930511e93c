"""A scriptable Zoom account in its own process: API v2 and the token endpoint, answering as Zoom does.

It has the quirks that a harvester must handle (UUIDs that must be encoded twice, page tokens that expire, windows
that are clamped, quotas by label, rows that appear late). It counts requests and knows the truth. If Zoom's
behaviour is unknown, an option offers both variants; the default is the one that is harder for a client.

    python -m simulators.zoom [--port 0] [OPTION ...]       prints "listening on http://127.0.0.1:PORT"

Calls are counted in order of arrival. Refused calls use up no quota; calls that hit a fault do. Calls that the
gate refuses (401) have no label. All responses past the gate have the quota headers, unless these are off.

Token endpoint: `POST /oauth/token`; API: `/v2/...`. Options (`--help` shows all, with defaults):

    server    --port, --now ISO (the clock's time at the start)
    data      --seed, --date (the last day, default yesterday UTC), --days, --meetings (a day), --people, --live,
              --delay-seconds (until an ended meeting is visible)
    account   --plan free|pro|business, --dashboard on|off, --account-id, --client-id, --client-secret, --scope
              (repeatable), --token-seconds, --one-token on|off, --token-errors new|old, --jwt on|off,
              --gateway-header "Name: value" (required instead of a token)
    lists     --page-token-seconds, --page-overlap, --old-windows refused|empty
    quotas    --limit heavy=5/s | resource-intensive=10/2s | light=20/min | heavy=100/day (repeatable),
              --rate-window sliding|fixed, --rate-headers on|off, --retry-after iso|seconds, --day-ends-in SECONDS,
              --day-seconds
    trouble   --fault JSON (repeatable), --latency-ms

Control (JSON, no login; errors are 400 with `{"error": ...}`):

    GET    /_sim/                 list of control requests
    GET    /_sim/requests         {"labels": {label: calls, refused, refused_by_rate, refused_by_day, peak (most calls,
                                  refused ones too, in any stretch of the rate's length), limit, seconds, day_limit,
                                  day_left}}, "endpoints", "statuses" ("0": dropped), "meetings": {uuid: calls},
                                  "tokens": issued}
    POST   /_sim/reset-requests   reset these counts, but not the used quota
    GET    /_sim/truth            ?from=DAY&to=DAY (by start, UTC; default: --date) &sessions=1: meetings with rows,
                                  distinct sessions (those of `sessions`: [participant_uuid, user_id, join ms]), people,
                                  distinguishable: [fewest, most] people distinguishable in Zoom's data;
                                  sums; "least_calls" by endpoint
    POST   /_sim/meetings         create one: start (ISO), seconds, people, and any of uuid, id, topic, host (id or
                                  email), defective, delay_seconds, sessions (objects with members of `world.Session`)
    PATCH  /_sim/meetings         change the one with `uuid`: as above, and more_people
    DELETE /_sim/meetings         {"uuid"}
    POST   /_sim/faults           {"kind": status (HTML) | error (Zoom's JSON, "code") | foreign (JSON of
                                  a proxy) | redirect | slow | drop | truncate | invalid-json | bad-quotes |
                                  page-token | null-rows | half-rows | endless, "endpoint": short name or any,
                                  "uuid" (of a meeting, or a user's id),
                                  "status", "share", "times", "seconds"}
    DELETE /_sim/faults           drop all
    POST   /_sim/options          {"plan": "pro", "limit": ["heavy=5/s"], ...}: change options, in the notation
                                  above; not those that determine the generated data
    POST   /_sim/consume          {"label", "calls"}: use up quota as another app of the account would
    POST   /_sim/revoke           revoke all access tokens
    POST   /_sim/clock            {"offset_seconds"}: from the real clock; rates use a monotonic clock

Short names of endpoints: token, meetings, meeting, participants, report-users, report-user-meetings, report-meeting,
report-participants, history, past-meeting, users, user-meetings.
"""
