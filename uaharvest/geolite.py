"""Looks up addresses in a MaxMind City database; returns the same fields as Logstash's geoip filter."""

import functools
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import iso3166
import maxminddb

from uaharvest.errors import BadInputError

REMEMBERED = 20_000  # addresses; enough for one evening's viewers


class GeoLite:
    """A City database, mapped into memory once per process.

    Args:
        path: GEOLITE_PATH, a GeoLite2-City.mmdb or GeoIP2-City.mmdb.

    Raises:
        BadInputError: There is no such file, or it is not a City database.
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
        # Many documents share the result, so nobody may modify it.
        self.locate = functools.lru_cache(REMEMBERED)(self._locate)

    def _locate(self, address: str) -> Mapping[str, Any] | None:
        """Return the `geoip` fields for `address`; None if it is private, unknown or not an address."""
        try:
            found = self._reader.get(ipaddress.ip_address(address))
        except ValueError:  # "-omitted-", "unknown", a list of addresses, IPv6 in an IPv4 database
            return None
        return fields(address, found) if isinstance(found, dict) else None


def nowhere(_: str) -> None:
    """Return None for every address; used if there is no database."""


def fields(address: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields that logstash-filter-geoip 2.0 (Logstash 2.4) returned, without unknown ones.

    `region_name` is a code and `real_region_name` the name; `location` has longitude first, as in GeoJSON.

    Args:
        address: The address that was looked up.
        found: Its record in the City database.
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
        "country_code3": alpha3.alpha3 if alpha3 else None,  # missing from MaxMind's newer databases
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
