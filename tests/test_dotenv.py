"""`.env` means what docker compose takes it for, or is refused by line."""

import os

import pytest

from uaharvest import settings
from uaharvest.dotenv import parse, read
from uaharvest.errors import BadInputError, Exit

SECRET = "open-sesame"


def values(text):
    found, _ = parse(text, "env")
    return {name: entry.value for name, entry in found.items()}


@pytest.fixture
def load(tmp_path):
    """Loads the settings of a `.env` with this content."""

    def load(content, **environment):
        path = tmp_path / ".env"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return settings.load(environment, path)

    return load


def refusal(load, content):
    with pytest.raises(BadInputError) as refused:
        load(content)
    assert refused.value.exit_code == Exit.USAGE
    assert SECRET not in str(refused.value)
    return str(refused.value)


# Read as docker compose reads it


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A = b ", "b"),
        ("export A=b", "b"),
        ("  export\tA=b", "b"),
        ("A: b", "b"),
        ("A=", ""),
        ("A=b # comment", "b"),
        ("A=b#no-comment", "b#no-comment"),
        ("A=#b", "#b"),
        ("A=b=c", "b=c"),
        ("A=it's", "it's"),
        ("A='b # c' # comment", "b # c"),
        ('A="b # c"# comment', "b # c"),
        ("A='$b'", "$b"),
        ("A='it\\'s'", "it's"),
        ("A='a\\b\\n'", "a\\b\\n"),
        ('A="a\\"b\\\\c\\td"', 'a"b\\c\td'),
        ('A="a\\$b"', "a$b"),
        ('A="one\ntwo"', "one\ntwo"),
        ("A=\\b", "\\b"),
        ("A=b\r", "b"),
    ],
)
def test_a_line_means_what_docker_compose_takes_it_for(line, value):
    assert values(f"# first\n\n{line}\nLAST=last\n") == {"A": value, "LAST": "last"}


def test_a_name_may_begin_with_export():
    assert values("exported=b") == {"exported": "b"}


def test_the_lines_of_an_old_mac_are_one_line(load):
    assert "one line" in refusal(load, "SQS_QUEUE_NAME=a\rA=b")


def test_a_name_without_a_value_is_the_environments():
    assert values("A\nexport B\nC=c") == {"C": "c"}


def test_windows_lines_and_a_byte_order_mark_change_nothing(load):
    loaded = load(b'\xef\xbb\xbfS3_LAST_ACTION_TS_KEY=mine\r\nexport SQS_QUEUE_NAME="queue"\r\n# end\r\n')
    assert (loaded.watermark_key, loaded.queue) == ("mine", "queue")


def test_a_comment_is_no_part_of_a_value(load):
    assert load("HARVEST_LAG_SECONDS=5 # seconds\nSQS_QUEUE_NAME='q' # ours\n").lag == 5


def test_of_two_lines_for_a_variable_the_last_counts_and_it_is_said(load, caplog):
    assert load("SQS_QUEUE_NAME=one\nDEFAULT_INTERVAL=3\nSQS_QUEUE_NAME=two\n").queue == "two"
    assert "SQS_QUEUE_NAME in lines 1, 3; the last one counts" in caplog.text
    caplog.clear()
    load("SQS_QUEUE_NAME=one\nSQS_QUEUE_NAME=one\n")
    assert not caplog.text


# Refused by line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"A=b\nMATTERHORN_REST_PASS=open-sesame\xfc\n", "line 2 (MATTERHORN_REST_PASS): it is not UTF-8"),
        ("SQS_QUEUE_NAME=queue\n".encode("utf-16"), "is UTF-16, or not text. Expected UTF-8"),
        ("SQS_QUEUE_NAME=queue\n".encode("utf-16-le"), "is UTF-16, or not text. Expected UTF-8"),
        ("A=b\n\ufeffSQS_QUEUE_NAME=q", "line 2: no variable is named"),
        ("A=b\nopen-sesame\n", "line 2: no variable is named"),
        ("=open-sesame", "line 1: no variable is named"),
        ("A=b\n\nREDIS_URL='open-sesame", "line 3 (REDIS_URL): the quote is never closed"),
        ('REDIS_URL="redis://"open-sesame', "line 1 (REDIS_URL): text follows the closing quote"),
        ("A=b\nMATTERHORN_REST_PASS=open-sesame$x", "line 2: MATTERHORN_REST_PASS holds a $"),
        ('MATTERHORN_REST_PASS="open-sesame$x"', "line 1: MATTERHORN_REST_PASS holds a $"),
        ('MATTERHORN_REST_PASS="open-sesame\\a"', "line 1: MATTERHORN_REST_PASS has a backslash"),
        ("HARVEST_LAG_SECONDS= # seconds", "line 1: HARVEST_LAG_SECONDS has a comment for a value"),
        ("HARVEST_LAG_SECONDS=5\t# seconds", "line 1: HARVEST_LAG_SECONDS has a # after a tab"),
        (
            'MATTERHORN_REST_PASS="open\nopen-sesame"',
            "MATTERHORN_REST_PASS: (set) cannot be used. Expected one line",
        ),
        ("HARVEST_LAG_SECONDS=soon", "line 1: HARVEST_LAG_SECONDS: 'soon' cannot be used"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_by_line(load, content, expected):
    assert expected in refusal(load, content)


def test_what_only_others_read_may_hold_a_dollar(load):
    load("OTHER_PROGRAMS_HASH=user:$2b$12$x\n")


def test_a_directory_and_a_link_to_nowhere_are_no_file(tmp_path):
    (tmp_path / "directory").mkdir()
    with pytest.raises(BadInputError, match=r"directory is a directory\. Expected a file"):
        read(tmp_path / "directory")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(BadInputError, match="link to a file that does not exist"):
        read(tmp_path / "link")
    assert read(tmp_path / "none")[0] == {}


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(BadInputError, match=r"\.env cannot be read: Permission denied\."):
        read(tmp_path / ".env")


# Names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OPENCAST_TIMZONE", "OPENCAST_TIMEZONE"),
        ("opencast_timezone", "OPENCAST_TIMEZONE"),
        ("MATTERHORN_ENGAGE_HOSTS", "MATTERHORN_ENGAGE_HOST"),
        ("SQS_QUEUENAME", "SQS_QUEUE_NAME"),
        ("S3_LAST_ACTION_TS_KEYS", "S3_LAST_ACTION_TS_KEY"),
        ("HARVEST_OVERLAP_SECOND", "HARVEST_OVERLAP_SECONDS"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_right_one(load, caplog, name, meant):
    line = refusal(load, f"A=b\n{name}={SECRET}\n")
    assert f"line 2: nothing reads {name}. Did you mean {meant}?" in line
    load("", **{name: SECRET})  # in the environment it may be another program's
    assert f"The environment has {name}, which nothing reads. Did you mean {meant}?" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HARVEST_LAG", "HARVEST_LAG_SECONDS"),
        ("MATTERHORN_HOST", "MATTERHORN_"),
        ("OPENCAST_TZ", "OPENCAST_"),
    ],
)
def test_a_name_with_a_beginning_of_ours_is_warned_of(load, caplog, name, meant):
    load(f"A=b\n{name}={SECRET}\n")
    assert f"line 2: nothing reads {name}. Did you mean {meant}" in caplog.text
    caplog.clear()
    load("", **{name: SECRET})
    assert f"The environment has {name}, which nothing reads. Did you mean {meant}" in caplog.text


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b", "\u202e", "\xa0"])
def test_an_invisible_character_makes_no_other_key(load, mark):
    line = refusal(load, f"S3_LAST_ACTION_TS_KEY=last{mark}action")
    assert "line 1: S3_LAST_ACTION_TS_KEY: " in line
    assert "no invisible characters" in line
    assert line.isprintable()


def test_other_programs_variables_are_no_misspelt_ones(load, caplog):
    names = (
        "ES_JAVA_OPTS",
        "REDIS_PASSWORD",
        "ZOOM_HOST",
        "PATH",
        "LOG_FILE",
        "MATTERHORN_ENGAGE_HOST_OLD",
        "HOSTNAME",
    )
    content = "".join(f"{name}=x\n" for name in names)
    load(content, **dict.fromkeys(names, "x"))
    assert not caplog.text
