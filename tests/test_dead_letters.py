import itertools
import json

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from uaharvest import lifecycle
from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.errors import BadInputError, BlockedError, RetryableError, UnreadableDeadLetterError

SECRET = {"raw": {"huid": "60002627"}}


@pytest.fixture
def dead_letters(bucket):
    return DeadLetters(boto3.client("s3"), bucket, "dead-letters/")


def record(number, stream="useractions", payload=SECRET):
    return DeadLetter.of_record(stream, number, "no date", payload)


def test_a_letter_comes_back_as_it_was_put(dead_letters):
    letter = DeadLetter.of_slice("zoom", "a1b2", "404 for ever", {"meeting": "x"})
    dead_letters.put(letter)
    assert dead_letters.get("zoom/slice-a1b2") == letter


def test_the_same_record_put_twice_is_one_letter_the_later_one(dead_letters):
    dead_letters.put(record(7))
    dead_letters.put(DeadLetter.of_record("useractions", 7, "still no date", SECRET))
    assert list(dead_letters.names()) == ["useractions/record-7"]
    assert dead_letters.get("useractions/record-7").reason == "still no date"


def test_a_record_without_id_is_named_after_its_content():
    assert record(None).name == record(None).name
    assert record(None).name != record(None, payload={"raw": {"huid": "1"}}).name


@pytest.mark.parametrize("record_id", ["/a+b==", "../x", "", "a" * 101, "é"])
def test_an_id_that_would_not_do_in_a_key_goes_by_its_digest(record_id):
    name = record(record_id).name
    assert name.startswith("useractions/record-")
    assert name.removeprefix("useractions/record-").isalnum()
    assert name == record(record_id).name


def test_letters_are_listed_and_counted_by_stream_over_many_pages(dead_letters, monkeypatch):
    s3 = dead_letters._s3
    paginator = s3.get_paginator("list_objects_v2")
    paginate = paginator.paginate
    monkeypatch.setattr(s3, "get_paginator", lambda name: paginator)
    monkeypatch.setattr(paginator, "paginate", lambda **kw: paginate(**kw, PaginationConfig={"PageSize": 2}))
    for number in range(5):
        dead_letters.put(record(number))
    dead_letters.put(record(1, stream="useractions-other"))
    assert list(dead_letters.names("useractions")) == [f"useractions/record-{number}" for number in range(5)]
    assert dead_letters.count("useractions") == 5
    assert len(list(dead_letters.names())) == 6


class Lists:
    """An S3 whose list of objects has these pages."""

    def __init__(self, pages):
        self.pages = pages

    def get_paginator(self, operation):
        return self

    def paginate(self, **_):
        return self.pages


def listing(*keys, **more):
    return {"IsTruncated": True, "Contents": [{"Key": f"dead-letters/{key}.json", **more} for key in keys]}


@pytest.mark.parametrize("page", [listing("zoom/record-1", Size=3), listing()])
def test_a_list_that_does_not_end_is_given_up(page):
    letters = DeadLetters(Lists(itertools.repeat(page)), "bucket", "dead-letters/")
    with pytest.raises(RetryableError, match=r"^s3://bucket/dead-letters/zoom/: the list of objects does not end"):
        letters.count("zoom")


def test_a_letter_that_is_on_two_pages_counts_once():
    pages = [listing("zoom/record-1", "zoom/record-2"), listing("zoom/record-2", "zoom/record-3")]
    assert DeadLetters(Lists(pages), "bucket", "dead-letters/").count("zoom") == 3


def test_a_list_of_objects_without_keys_is_not_s3s():
    pages = [{"IsTruncated": False, "Contents": [{"Size": 3}]}]
    with pytest.raises(BlockedError, match="what answers is not S3"):
        DeadLetters(Lists(pages), "bucket", "dead-letters/").count("zoom")


def test_a_dropped_letter_is_gone_and_cannot_be_dropped_again(dead_letters):
    dead_letters.put(record(1))
    dead_letters.drop("useractions/record-1")
    assert dead_letters.count("useractions") == 0
    with pytest.raises(BadInputError, match="useractions/record-1"):
        dead_letters.drop("useractions/record-1")


def test_a_letter_that_does_not_exist_is_named(dead_letters):
    with pytest.raises(BadInputError, match="no dead letter 'useractions/record-9'"):
        dead_letters.get("useractions/record-9")


def test_a_bucket_that_is_missing_holds_no_letters_and_is_created_by_the_first(aws):
    dead_letters = DeadLetters(boto3.client("s3"), "letters-of-a-new-site", "dead-letters/")
    assert list(dead_letters.names()) == []
    with pytest.raises(BadInputError):
        dead_letters.drop("useractions/record-1")
    dead_letters.put(record(1))
    assert dead_letters.count("useractions") == 1


def test_without_a_bucket_there_is_nowhere_to_keep_a_letter_and_none_is_listed():
    dead_letters = DeadLetters(boto3.client("s3", region_name="us-east-1"), None, "dead-letters/")
    with pytest.raises(BlockedError, match="nowhere to keep it: set S3_HARVEST_TS_BUCKET"):
        dead_letters.put(record(1))
    assert dead_letters.count("useractions") == 0
    with pytest.raises(BadInputError):
        dead_letters.get("useractions/record-1")


WHOLE = {
    "stream": "zoom",
    "kind": "record",
    "reason": "r",
    "at": "2026-11-20T00:00:00+00:00",
    "payload": {},
    "schema": 1,
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schema": 2}',
        b"\xff",
        b"[" * 100_000,
        json.dumps({**WHOLE, "schema": 2}).encode(),
        json.dumps({**WHOLE, "at": "yesterday"}).encode(),
        json.dumps({**WHOLE, "at": "2026-11-20T00:00:00"}).encode(),
        json.dumps({**WHOLE, "kind": "meeting"}).encode(),
        json.dumps({**WHOLE, "payload": [1]}).encode(),
        json.dumps({**WHOLE, "stream": "useractions"}).encode(),
        json.dumps({**WHOLE, "kind": "slice"}).encode(),
    ],
)
def test_what_is_no_letter_is_not_taken_for_one_and_can_be_dropped(dead_letters, bucket, content):
    dead_letters._s3.put_object(Bucket=bucket, Key="dead-letters/zoom/record-1.json", Body=content)
    with pytest.raises(
        UnreadableDeadLetterError, match=f"s3://{bucket}/dead-letters/zoom/record-1.json is not a dead letter"
    ):
        dead_letters.get("zoom/record-1")
    dead_letters.drop("zoom/record-1")
    assert list(dead_letters.names()) == []


def test_a_whole_letter_is_read(dead_letters, bucket):
    dead_letters._s3.put_object(Bucket=bucket, Key="dead-letters/zoom/record-1.json", Body=json.dumps(WHOLE))
    assert dead_letters.get("zoom/record-1").reason == "r"


def test_a_huge_object_is_not_read_whole(dead_letters, bucket, monkeypatch):
    monkeypatch.setattr("uaharvest.dead_letters.MOST_BYTES", 1000)
    dead_letters.put(DeadLetter.of_record("zoom", 1, "no date", {"raw": "x" * 1000}))
    with pytest.raises(UnreadableDeadLetterError, match="more than 1,000 bytes"):
        dead_letters.get("zoom/record-1")


@pytest.mark.parametrize(
    "key", ["zoom/notes.txt", "zoom/record-1", "readme", "zoom/record-1.json.bak", "zoom/a b/c"]
)
def test_a_foreign_object_goes_by_its_key(dead_letters, bucket, key):
    dead_letters._s3.put_object(Bucket=bucket, Key=f"dead-letters/{key}", Body=b"foreign")
    dead_letters._s3.put_object(Bucket=bucket, Key="dead-letters/zoom/", Body=b"")  # a folder of S3's console
    assert list(dead_letters.names()) == [key]
    with pytest.raises(UnreadableDeadLetterError, match=f"dead-letters/{key} is not a dead letter"):
        dead_letters.get(key)
    dead_letters.drop(key)
    assert list(dead_letters.names()) == []


def test_an_object_that_s3_does_not_give_out_is_unreadable(dead_letters, monkeypatch):
    dead_letters.put(record(1))
    denial = {"Error": {"Code": "AccessDenied", "Message": "not authorized to perform: kms:Decrypt"}}

    def denied(**_):
        raise ClientError({**denial, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")

    monkeypatch.setattr(dead_letters._s3, "get_object", denied)
    with pytest.raises(UnreadableDeadLetterError, match=r"dead-letters/useractions/record-1\.json cannot be read"):
        dead_letters.get("useractions/record-1")
    dead_letters.drop("useractions/record-1")
    assert list(dead_letters.names()) == []


def test_a_letter_shows_its_payload_in_no_repr():
    assert "60002627" not in repr(record(1)) + str(record(1))


@pytest.mark.parametrize(
    ("code", "status", "error", "words"),
    [("AccessDenied", 403, BlockedError, "s3:PutObject"), ("SlowDown", 503, RetryableError, "SlowDown")],
)
def test_a_put_that_s3_refuses_confirms_nothing(code, status, error, words):
    s3 = boto3.client("s3", region_name="us-east-1")
    stub = Stubber(s3)
    stub.add_client_error("put_object", code, http_status_code=status)
    with stub, pytest.raises(error, match=words):
        DeadLetters(s3, "bucket", "dead-letters/").put(record(1))


@pytest.mark.parametrize(
    ("operation", "ask"),
    [
        ("list_objects_v2", lambda dead_letters: dead_letters.count("zoom")),
        ("head_object", lambda dead_letters: dead_letters.get("zoom/record-1")),
        ("head_object", lambda dead_letters: dead_letters.drop("zoom/record-1")),
    ],
    ids=["count", "get", "drop"],
)
def test_a_denial_is_not_taken_for_absence(operation, ask):
    s3 = boto3.client("s3", region_name="us-east-1")
    stub = Stubber(s3)
    stub.add_client_error(operation, "403", http_status_code=403)
    with stub, pytest.raises(BlockedError, match="s3:ListBucket"):
        ask(DeadLetters(s3, "bucket", "dead-letters/"))


# At rest


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, {}),
        ("AES256", {"ServerSideEncryption": "AES256"}),
        ("aws:kms", {"ServerSideEncryption": "aws:kms"}),
        ("aws:kms:key-1", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-1"}),
    ],
)
def test_a_letter_is_encrypted_as_the_site_has_chosen(chosen, expected):
    asked = []

    class S3:
        def put_object(self, **arguments):
            asked.append(arguments)
            return {"ETag": "x"}

    DeadLetters(S3(), "bucket", "dead-letters/", encryption=chosen).put(record(1))
    (arguments,) = asked
    assert {name: value for name, value in arguments.items() if "SSE" in name or "Encryption" in name} == expected


def test_letters_expire_by_a_rule_of_the_bucket_and_other_rules_stay(bucket):
    s3 = boto3.client("s3")
    other = {"ID": "other", "Status": "Enabled", "Filter": {"Prefix": "other/"}, "Expiration": {"Days": 3}}
    assert lifecycle.rules(s3, bucket) == []
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [other]})
    for days in (90, 30):
        lifecycle.expire(s3, bucket, "dead-letters/", days)
        rules = lifecycle.rules(s3, bucket)
        assert sorted(rule["ID"] for rule in rules) == ["other", lifecycle.RULE]
        assert lifecycle.days(rules, "dead-letters/") == days
    assert lifecycle.days(rules, "watermark") is None


def test_a_rule_for_some_objects_only_is_not_taken_for_the_expiry():
    rule = {"Status": "Enabled", "Expiration": {"Days": 1}}
    assert lifecycle.days([{**rule, "Filter": {"Prefix": ""}}], "dead-letters/") == 1
    for unfit in (
        {**rule, "Filter": {"Tag": {"Key": "a", "Value": "b"}}},
        {**rule, "Filter": {"And": {"Prefix": "", "Tags": []}}},
        {**rule, "Filter": {"Prefix": "dead-letters/x"}},
        {**rule, "Filter": {"Prefix": ""}, "Status": "Disabled"},
        {"Status": "Enabled", "Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {}},
    ):
        assert lifecycle.days([unfit], "dead-letters/") is None
