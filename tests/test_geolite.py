import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from uaharvest.errors import BadInputError
from uaharvest.geolite import GeoLite

CAMBRIDGE = {
    "city": {"names": {"en": "Cambridge", "de": "Cambridge (MA)"}},
    "continent": {"code": "NA", "names": {"en": "North America"}},
    "country": {"iso_code": "US", "names": {"de": "USA", "en": "United States"}},
    "location": {"latitude": 42.38, "longitude": -71.13, "metro_code": 506, "time_zone": "America/New_York"},
    "postal": {"code": "02138"},
    "subdivisions": [
        {"iso_code": "X", "names": {"en": "a region of regions"}},
        {"iso_code": "MA", "names": {"en": "Massachusetts"}},
    ],
}


def write(path, kind="GeoLite2-City"):
    writer = MMDBWriter(ip_version=6, database_type=kind, ipv4_compatible=True)
    writer.insert_network(IPSet(["128.103.0.0/16"]), CAMBRIDGE)
    writer.insert_network(IPSet(["2001:db8::/32"]), {"country": {"iso_code": "DE", "names": {"en": "Germany"}}})
    writer.to_db_file(str(path))
    return path


@pytest.fixture(scope="module")
def geolite(tmp_path_factory):
    return GeoLite(write(tmp_path_factory.mktemp("geolite") / "City.mmdb"))


def test_a_place_has_the_fields_of_logstash(geolite):
    assert geolite.locate("128.103.1.2") == {
        "ip": "128.103.1.2",
        "country_code2": "US",
        "country_code3": "USA",
        "country_name": "United States",
        "continent_code": "NA",
        "region_name": "MA",
        "real_region_name": "Massachusetts",
        "city_name": "Cambridge",
        "postal_code": "02138",
        "dma_code": 506,
        "latitude": 42.38,
        "longitude": -71.13,
        "timezone": "America/New_York",
        "location": [-71.13, 42.38],
    }


def test_what_is_not_known_of_a_place_is_left_out(geolite):
    assert geolite.locate("2001:db8::1") == {
        "ip": "2001:db8::1",
        "country_code2": "DE",
        "country_code3": "DEU",
        "country_name": "Germany",
    }


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "::1",
        "8.8.8.8",
        "-omitted-",
        "",
        "unknown",
        "128.103.1.2, 10.0.0.1",
        "fe80::1%eth0",
        "\ud800",
        "a\0b",
    ],
)
def test_private_unknown_and_odd_addresses_give_no_place(geolite, address):
    assert geolite.locate(address) is None


def test_a_database_of_something_else_is_refused(tmp_path):
    with pytest.raises(BadInputError, match=r"GEOLITE_PATH.*is a GeoLite2-ASN database"):
        GeoLite(write(tmp_path / "asn.mmdb", "GeoLite2-ASN"))


def test_a_file_that_is_no_database_or_not_there_is_told_with_its_setting(tmp_path):
    (tmp_path / "x.mmdb").write_text("no database")
    for name in ("x.mmdb", "not-there.mmdb"):
        with pytest.raises(BadInputError, match="GEOLITE_PATH"):
            GeoLite(tmp_path / name)
