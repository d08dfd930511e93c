"""Maps Zoom's refusals and failures to errors. Nothing here calls Zoom."""

from http import HTTPStatus

from uaharvest.errors import BlockedError, HarvestError, PoisonError, PutOffError, SourceError
from uaharvest.zoom import answers
from uaharvest.zoom.answers import Answer
from uaharvest.zoom.auth import CREDENTIALS, redirected
from uaharvest.zoom.endpoints import MEETINGS, PARTICIPANTS, REPORTED_PARTICIPANTS, USER_MEETINGS, Endpoint


class MeetingUnavailableError(HarvestError):
    """Zoom has no participants of this meeting, and never will.

    Attributes:
        code: Zoom's code (3001, 3161, 12702), or 404.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class DaysRefusedError(BlockedError):
    """Zoom refuses the days in a request, or answers for other days."""


class RefusedError(BlockedError):
    """Zoom refuses a request. It is not yet known whether it refuses others too.

    Attributes:
        item: The message to use if only this meeting or host is refused.
        code: Zoom's code.
    """

    def __init__(self, message: str, item: str, code: int) -> None:
        super().__init__(message)
        self.item = item
        self.code = code


class NoDashboardError(RefusedError):
    """The account has no Dashboard, or Zoom refuses this particular meeting with the same code."""


class UserUnavailableError(HarvestError):
    """The user has no meetings to list."""


class PageTokenEndedError(SourceError):
    """Zoom no longer accepts a page token."""


class TokenRefusedError(SourceError):
    """Zoom no longer accepts the access token. The next attempt uses another."""


class TooManyCallsError(PutOffError):
    """Zoom answered 429. Calls with this label must wait."""


class ThrottledAloneError(PoisonError):
    """Zoom answers 429 for one meeting or host again and again, while it answers for others."""


def failure(endpoint: Endpoint, answer: Answer, target: str, *, paged: bool, why: str) -> HarvestError:
    """Return the error for an unsuccessful response.

    Args:
        endpoint: The endpoint that was called.
        answer: Its response.
        target: Where the response redirects to, if it does.
        paged: Whether the request had a page token.
        why: Why the Report endpoints were called, if they were; for messages.
    """
    where = f"Zoom's {endpoint.path}"
    said = f"{answer.status}, code {answer.code}" if answer.code else f"{answer.status}"
    if answer.passing:
        what = " with a web page" if answer.page else "" if answer.body else " with something that is not JSON"
        return SourceError(f"{where} answered {said}{what}.")
    if answer.page_token_ended and paged:
        return PageTokenEndedError(f"{where} no longer accepts its page token ({said}).")
    item = f"{where} answered {said}"
    words = f" Zoom: {answer.words}" if answer.words and endpoint.of_account else ""
    if answer.code in answers.SCOPES:
        scope = " or ".join(answer.scopes or endpoint.scopes[:2])
        line = f"{where} is not permitted ({said}). Give the app the scope {scope}{why}."
        return RefusedError(line, item, answer.code)
    if answer.code == answers.NO_PERMISSION:
        line = f"{where} is not available to this account ({said}). It needs {endpoint.plan}{why}.{words}"
        dashboard = endpoint in {MEETINGS, PARTICIPANTS}
        return (NoDashboardError if dashboard else RefusedError)(line, item, answer.code)
    return _failure_of_one(endpoint, answer, where, said) or _failure_of_all(answer, where, said, words, target)


def verdict(error: HarvestError, *, others: bool) -> HarvestError:
    """Return the final error for a refusal, once it is known whether Zoom answers for `others`."""
    if isinstance(error, ThrottledAloneError):
        return error  # it says so already
    if not others:
        return error if isinstance(error, BlockedError) else BlockedError(f"{error} It refuses others too.")
    line = error.item if isinstance(error, RefusedError) else str(error).rstrip(".")
    return PoisonError(f"{line}, and answers for others.")


def _failure_of_one(endpoint: Endpoint, answer: Answer, where: str, said: str) -> HarvestError | None:
    """Return the error if it concerns one meeting or one user; None if it may concern more."""
    # The endpoint does not exist, or the response is not from Zoom itself. That says nothing about the meeting.
    if answer.code == answers.NO_ENDPOINT or (answer.body is None and not answer.code) or answer.redirects:
        return None
    not_found = answer.status == HTTPStatus.NOT_FOUND
    if endpoint is USER_MEETINGS and ((not_found and answer.code) or answer.code in answers.USER_NOT_FOUND):
        return UserUnavailableError(f"{where} has no such host ({said}).")
    if endpoint not in {PARTICIPANTS, REPORTED_PARTICIPANTS}:
        return None
    if not_found or answer.code in answers.MEETING_NOT_FOUND or answer.of_webinar:
        return MeetingUnavailableError(f"{where} has no such meeting ({said}).", answer.code or answer.status)
    refused = answer.code and answer.status >= HTTPStatus.BAD_REQUEST
    return PoisonError(f"{where} refused this meeting ({said}).") if refused else None


def _failure_of_all(answer: Answer, where: str, said: str, words: str, target: str) -> HarvestError:
    """Return the error for a response that any other request would have received too."""
    if answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return SourceError(f"{where} answered {said}, an error.")
    if answer.code == answers.VALIDATION:
        return DaysRefusedError(
            f"{where} refused the days, or another parameter ({said}).{words} Ask for other days."
        )
    line = f"{where} answered {said}"
    if answer.redirects:
        return RefusedError(f"{line}. Check ZOOM_API_URL{redirected(target)}.", line, answer.code)
    page = " with a web page" if answer.page else ""
    return RefusedError(
        f"{line}.{words} Check ZOOM_API_URL and {CREDENTIALS}{page and ': it sent a web page'}.",
        f"{line}{page}",
        answer.code,
    )
