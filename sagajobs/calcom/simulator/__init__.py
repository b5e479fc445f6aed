"""A real HTTP server that behaves as Cal.com's API v2 does, and fails in the middle when told to.

Start one with `python -m sagajobs.calcom.simulator --port 0`, or `serve()`. Beside the API it has these
endpoints, which take and give JSON; a body that makes no sense is a 400 that says why.

`GET /_simulator/ledger`
    `{"bookings": [...]}`: all bookings as they really are, each with its `history` of `{what, at,
    requestId}`.

`GET`, `PUT /_simulator/bookings`
    Keep all bookings, and put them back in place of whatever there is by then: `{"bookings": [...]}`, each with its
    `row` and its `history`, uids, keys and people as they were.

`GET`, `POST`, `DELETE /_simulator/faults`
    Show the rules in force (and how often each fired), add one, drop all. A rule is `{"operation":
    create|get|list|cancel|reschedule|confirm|decline|reassign|location|guests|add_attendee|remove_attendee|
    mark_absent|slots|any, "kind": timeout|drop|http_500|http_503|http_524|rate_limit|slow|malformed, "when":
    before|after}` with either `"count": n` or `"probability": p` and, to repeat a run, `"seed": s`. "before" is the
    default and means that the call is not carried out (a slow one is, but late); "after" means that it is, and only
    the answer is spoilt. A rate limit always comes before. `"seconds"` sets how long a slow call takes (1), how long a
    silent one is held at most (120), or what a rate limit says (60). Of several rules that fit a call the first that
    fires counts.

`GET`, `POST /_simulator/switches`
    Show or set some of: `lag_ms`, `replica_stopped`, `lag_fails_create`, `lag_blinds_cancel`, `race`
    (off|conflict|redacted), `bookings_version_known`, `fallback` (unfiltered|not_found), `clock_offset_seconds`,
    `rate_limit_per_minute`, `rate_limit_window_seconds`, `rate_limit_block_seconds`, `webhooks_lost`,
    `webhooks_doubled`, `webhooks_reordered`, `webhooks_before_reply`; see `switches.Switches`.

`POST /_simulator/host/{cancel|move|reassign|confirm|decline}`
    What a host does in the web app: `{"uid": ..., "reason": ...}`, for a move with `"start"`, for a reassignment with
    `"host"` (an id; without it whoever is free gets it) and no reason. Answers with the booking as it is then, or
    with the refusal that the API would give; webhooks are told as of any change.

`GET /_simulator/deliveries`
    `{"deliveries": [...]}`: everything that was to be sent to webhooks, each with its exact `body`, `signature`,
    `fate` (waiting|sent|lost|held) and one of `answers` for each time that it was sent, `{status, error}`.

`POST /_simulator/deliveries/{id}/repeat`
    Send one of them once more, the very same bytes, and answer with it.

`GET /_simulator/requests`
    `{"requests": [...]}`: the latest calls of the API, each `{at, request_id, operation, method, path, version,
    fault, status}`, without queries and bodies.

`GET /_simulator/counts`
    `{"calls": n, "statuses": {...}, "operations": {...}}`: how many calls of the API got which status ("none" where
    no answer was sent), in all and by operation.

`POST /_simulator/reset`
    Forget everything; a slow call that is under way does nothing any more, and is not counted. May carry `"switches"`
    and a `"world"`: `{"hosts": [{id, name, email, username, time_zone}], "event_types": [{id, slug, title, length,
    lengths, hosts, requires_confirmation, round_robin, cancelling_disabled, minimum_notice, days_ahead,
    reschedule_notice, foreign}]}`; see `world.EventType`, and `world.default_world` for what there is otherwise.

Simulated are bookings with everything that can be done to one, their attendees, slots and reservations, webhooks, event
types (list and one) and `/v2/me`. Recurring, instant, seated and team-slug bookings, and templates of webhooks, answer
501; everything else 404 as a route that does not exist, a change of a booking's metadata among it.
"""

from sagajobs.calcom.simulator.server import DEFAULT_API_KEY, serve

__all__ = ["DEFAULT_API_KEY", "serve"]
