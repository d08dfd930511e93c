"""GET /search/episode.json in the forms of Solr (Opencast 15 and older) and OpenSearch (16 and newer)."""

from collections.abc import Sequence

from simulators.opencast.actions import RefusedError, integer
from simulators.opencast.auth import Caller
from simulators.opencast.episodes import Episode, new_result, old_result
from simulators.opencast.site import Site
from simulators.opencast.table import shuffled
from simulators.wire import TEXT_TYPE, Request, Response

_NEW_DEFAULT_LIMIT = 20
_NEW_ANONYMOUS_LIMIT = 250


class Search:
    """A site's search service; its results are written once."""

    def __init__(self, site: Site) -> None:
        """Write the result for every episode that was ever in the index."""
        self._site = site
        profile = site.profile
        self._results = {
            episode.id: profile.encode(
                new_result(episode, profile) if profile.new_search else old_result(episode, profile, site.zone)
            )
            for episode in site.episodes
            if episode.state != "gone"
        }

    def answer(self, request: Request, caller: Caller) -> Response:
        """Return the requested episodes; for a missing one the response is 200 without a result."""
        new = self._site.profile.new_search
        return self._new_answer(request, caller) if new else self._old_answer(request, caller)

    def _old_answer(self, request: Request, caller: Caller) -> Response:
        if request.parameter("admin") == "true" and not caller.admin:
            return Response(401, b"unauthorized", TEXT_TYPE)
        limit, offset = integer(request, "limit"), integer(request, "offset")
        with_deleted = self._site.profile.harvard and request.parameter("includeDeleted") == "true"
        found = self._found(request, caller, with_deleted=with_deleted)
        found.sort(key=lambda episode: episode.created_ms, reverse=True)
        profile = self._site.profile
        # Up to Opencast 10, no limit means all, and the echoed limit is the number of rows returned.
        asked = limit or profile.search_limit or -1
        page = found[offset : offset + asked if asked > 0 else None]
        echo = asked if profile.search_limit and asked > 0 else len(page)
        numbers = {"offset": offset, "limit": echo, "total": len(found), "searchTime": 3}
        typed = {name: profile.attribute(str(value)) for name, value in numbers.items()}
        head = '{"search-results":' + profile.encode({**typed, "query": "*:*"})[:-1]
        if not page:
            return Response(200, f"{head}}}}}".encode())
        results = self._join(page)
        return Response(200, f'{head},"result":{results if len(page) == 1 else f"[{results}]"}}}}}'.encode())

    def _new_answer(self, request: Request, caller: Caller) -> Response:
        limit = _lenient_integer(request.parameter("limit"), _NEW_DEFAULT_LIMIT)
        offset = _lenient_integer(request.parameter("offset"), 0)
        if limit < 0 or offset < 0:
            raise RefusedError(400, "Limit and offset may not be negative.")
        if limit > _NEW_ANONYMOUS_LIMIT and not caller.admin:
            raise RefusedError(400, "Only admins are allowed to request more than 250 items.")
        found = self._found(request, caller, with_deleted=False)
        # There is no default order, because every hit has the same score.
        places = shuffled(range(len(found)), offset, limit, f"search {self._site.options.seed}")
        results = self._join([found[place] for place in places])
        echo = f'"offset":{offset},"total":{len(found)},"limit":{limit}'
        return Response(200, f'{{{echo},"result":[{results}]}}'.encode())

    def _found(self, request: Request, caller: Caller, *, with_deleted: bool) -> list[Episode]:
        wanted = request.parameter("id")
        return [
            episode
            for episode in self._site.episodes
            if wanted in ("", episode.id)
            and (episode.state == "published" or (with_deleted and episode.state == "deleted"))
            and (caller.admin or episode.public)
        ]

    def _join(self, episodes: Sequence[Episode]) -> str:
        return ",".join(self._results[episode.id] for episode in episodes)


def _lenient_integer(text: str, default: int) -> int:
    try:
        return int(text)
    except ValueError:
        return default
