"""Where an address is, as a MaxMind City database says, in the shape that Logstash's geoip filter gave it."""

import functools
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import iso3166
import maxminddb

from uaharvest.errors import BadInputError

REMEMBERED = 20_000  # addresses; those of one evening's viewers


class GeoLite:
    """A City database, mapped into memory once per process.

    Args:
        path: GEOLITE_PATH, a GeoLite2-City.mmdb or GeoIP2-City.mmdb.

    Raises:
        BadInputError: There is no such file, or it is no City database.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._reader = maxminddb.open_database(path)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            raise BadInputError(
                f"GEOLITE_PATH: {path} cannot be read: {error}. Expected a GeoLite2-City.mmdb."
            ) from None
        kind = self._reader.metadata().database_type
        if "City" not in kind:
            raise BadInputError(f"GEOLITE_PATH: {path} is a {kind} database. Expected a GeoLite2-City.mmdb.")
        # Shared by many documents, so nobody may change what it returns.
        self.locate = functools.lru_cache(REMEMBERED)(self._locate)

    def _locate(self, address: str) -> Mapping[str, Any] | None:
        """Return the `geoip` fields of `address`; None if it is private, unknown or no address."""
        try:
            found = self._reader.get(ipaddress.ip_address(address))
        except ValueError:  # "-omitted-", "unknown", a list of addresses, IPv6 in a database of IPv4
            return None
        return fields(address, found) if isinstance(found, dict) else None


def nowhere(_: str) -> None:
    """Say of every address that it is not known: without a database."""


def fields(address: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what logstash-filter-geoip 2.0 (Logstash 2.4) made of the same place, without what is not known.

    There `region_name` is a code and `real_region_name` the name; `location` is GeoJSON's order: longitude first.

    Args:
        address: What was looked up.
        found: The record of a City database.
    """
    country = found.get("country", {})
    code = country.get("iso_code")
    alpha3 = iso3166.countries_by_alpha2.get(code or "")
    region = (found.get("subdivisions") or [{}])[-1]  # the smallest
    place = found.get("location", {})
    latitude, longitude = place.get("latitude"), place.get("longitude")
    known = {
        "ip": address,
        "country_code2": code,
        "country_code3": alpha3.alpha3 if alpha3 else None,  # which MaxMind's new databases do not have
        "country_name": _english(country),
        "continent_code": found.get("continent", {}).get("code"),
        "region_name": region.get("iso_code"),
        "real_region_name": _english(region),
        "city_name": _english(found.get("city", {})),
        "postal_code": found.get("postal", {}).get("code"),
        "dma_code": place.get("metro_code"),
        "latitude": latitude,
        "longitude": longitude,
        "timezone": place.get("time_zone"),
        "location": None if latitude is None or longitude is None else [longitude, latitude],
    }
    return {name: value for name, value in known.items() if value is not None}


def _english(place: Mapping[str, Any]) -> str | None:
    names: Mapping[str, str] = place.get("names", {})
    return names.get("en")
