"""What a site's settings say about personal data."""

from collections.abc import Callable, Sequence

from uaharvest.documents.indexed import Locate
from uaharvest.geolite import GeoLite, nowhere
from uaharvest.privacy.people import NO_ONE, Erased
from uaharvest.privacy.protection import Choice, Protection
from uaharvest.privacy.pseudonyms import PseudonymKey
from uaharvest.settings import Settings


def choice(settings: Settings) -> Choice:
    """Return what the settings choose."""
    return Choice(
        keys=[PseudonymKey(*key) for key in settings.privacy_pseudonyms],
        address=settings.privacy_address,
        agent=settings.privacy_agent,
        types=settings.privacy_types,
        anonymous=settings.anonymous_users,
    )


def known_as(settings: Settings) -> Callable[[str], Sequence[str]]:
    """Return what gives all values that may stand in documents for a login, id or e-mail address."""
    pseudonyms = choice(settings).pseudonyms
    return lambda value: [value, *(pseudonyms.every(value) if pseudonyms else ())]


def protection(settings: Settings, erased: Erased = NO_ONE) -> Protection:
    """Return what protects personal data at this site, and leaves out those who were erased.

    Raises:
        BadInputError: GEOLITE_PATH is unusable, and addresses are located before they are cut.
    """
    located = settings.geolite is not None and settings.privacy_address != "full"
    return Protection(choice(settings), _locate(settings) if located else nowhere, erased)


def locate_stored(settings: Settings) -> Locate:
    """Return what locates the addresses of records: nothing does if they were located before they were cut.

    Raises:
        BadInputError: GEOLITE_PATH is unusable.
    """
    return _locate(settings) if settings.privacy_address == "full" else nowhere


def _locate(settings: Settings) -> Locate:
    return GeoLite(settings.geolite).locate if settings.geolite else nowhere
