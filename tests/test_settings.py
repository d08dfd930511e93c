import pytest

from uaharvest import settings
from uaharvest.errors import BadInputError


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("10.0.0.5", "http://10.0.0.5:9200/"),
        ("localhost:9201", "http://localhost:9201/"),
        ("es.example.edu/es", "http://es.example.edu:9200/es/"),
        ("https://es.example.edu", "https://es.example.edu/"),
        ("http://[::1]:9200", "http://[::1]:9200/"),
    ],
)
def test_es_host_is_a_host_with_or_without_port_or_a_url(value, url):
    assert settings.load({"ES_HOST": value}).es_url == url


def test_a_password_in_es_host_is_refused_and_not_shown():
    with pytest.raises(BadInputError, match=r"ES_HOST: .*ES_USER, ES_PASSWORD") as caught:
        settings.load({"ES_HOST": "https://u:geheim@es.example.edu"})
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("value", ["sqlite:///documents.db", "sqlite:////srv/uaharvest/documents.db"])
def test_documents_url_is_the_path_of_an_sqlite_file(value):
    assert settings.load({"DOCUMENTS_URL": value}).documents_url == value


@pytest.mark.parametrize(
    "value", ["sqlite:///", "sqlite://x.db", "postgresql://db/x", "documents.db", "sqlite:///x/"]
)
def test_documents_url_of_another_kind_is_refused(value):
    with pytest.raises(BadInputError, match=r"DOCUMENTS_URL: .*sqlite:/// and a path"):
        settings.load({"DOCUMENTS_URL": value})


def test_secrets_are_in_no_repr():
    read = settings.load({"ES_API_KEY": "geheim1", "ES_USER": "u", "ES_PASSWORD": "geheim2"})
    assert "geheim" not in repr(read)


@pytest.mark.parametrize("value", ["X-Api-Key", "X Api: 1", "X-Api-Key: a\nb", ": x", "X-Api-Key:"])
def test_a_zoom_header_that_is_none_is_refused_and_not_shown(value):
    with pytest.raises(BadInputError, match=r"ZOOM_HEADER: \(set\)"):
        settings.load({"ZOOM_HEADER": value})


def test_zooms_url_without_a_scheme_is_refused():
    with pytest.raises(BadInputError, match="ZOOM_API_URL"):
        settings.load({"ZOOM_API_URL": "api.zoom.us/v2"})


def test_no_secret_of_zoom_is_in_a_repr():
    names = ["ZOOM_KEY", "ZOOM_SECRET", "ZOOM_ACCOUNT_ID"]
    read = settings.load({**dict.fromkeys(names, "geheim"), "ZOOM_HEADER": "X-Api-Key: geheim"})
    assert "geheim" not in repr(read)
