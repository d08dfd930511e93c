"""Files as they come: local, in S3, compressed, cut off."""

import gzip
import io
import os

import boto3
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.documents.imported import useraction
from uaharvest.errors import BadInputError, PoisonError
from uaharvest.importing import files, importer
from uaharvest.importing.files import File, opened

LINES = [f'{{"line": {number}, "text": "{"ü" * (number % 50)}"}}'.encode() for number in range(5000)]
CONTENT = b"\n".join(LINES) + b"\n"
PACKED = {"plain": CONTENT, "gzip": gzip.compress(CONTENT), "zstd": zstd.compress(CONTENT)}


def contents(name, position=0):
    with opened(str(name)) as file:
        return [line.content for line in file.lines(position)]


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_lines_are_read_whatever_compresses_them_and_whatever_the_name(tmp_path, packed):
    path = tmp_path / "dump"
    path.write_bytes(packed)
    assert contents(path) == LINES


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_reading_continues_after_any_line(tmp_path, packed):
    path = tmp_path / "dump"
    path.write_bytes(packed)
    with opened(str(path)) as file:
        ends = [line.end for line in file.lines(0)]
    assert contents(path, ends[1233]) == LINES[1234:]
    assert contents(path, ends[-1]) == []


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_parts_that_were_compressed_one_by_one_are_one_file(tmp_path, kind):
    path = tmp_path / "dump"
    path.write_bytes(PACKED[kind] * 2)
    assert contents(path) == LINES * 2


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize(
    "broken", [lambda packed: packed[:-20], lambda packed: packed[:200] + bytes(200) + packed]
)
def test_a_compressed_file_that_is_broken_is_named(tmp_path, kind, broken):
    path = tmp_path / "dump"
    path.write_bytes(broken(PACKED[kind]))
    with pytest.raises(
        BadInputError, match=r"dump: its compressed content is broken or cut off after [\d,]+ bytes"
    ):
        contents(path)


def test_empty_lines_and_a_missing_last_line_end_do_not_matter(tmp_path):
    path = tmp_path / "dump"
    path.write_bytes(b"\r\n{}\r\n\n  \n[]")
    assert contents(path) == [b"{}", b"[]"]


def test_of_a_line_that_is_too_long_only_the_beginning_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 100)
    monkeypatch.setattr(files, "KEPT", 10)
    path = tmp_path / "dump"
    path.write_bytes(b"a" * 1000 + b"\n" + b"b" * 99 + b"\n" + b"c" * 300)
    with opened(str(path)) as file:
        found = [(line.start, line.end, line.content, line.is_too_long) for line in file.lines(0)]
    assert found == [
        (0, 1001, b"a" * 10, True),
        (1001, 1101, b"b" * 99, False),
        (1101, 1401, b"c" * 10, True),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("missing", "No such file"), (".", "Is a directory"), ("s3://bucket", "s3://BUCKET/KEY")],
)
def test_what_is_no_file_is_named(tmp_path, monkeypatch, aws, name, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=f"{name}: .*{expected}"), opened(name):
        pass


def test_a_pipe_has_no_identity(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"{}\n")
    os.close(writer)
    with opened(f"/dev/fd/{reader}") as file:
        assert (file.identity, file.share, [line.content for line in file.lines(0)]) == (None, None, [b"{}"])
    os.close(reader)


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_an_object_in_s3_is_read_in_pieces(bucket, monkeypatch, packed):
    monkeypatch.setattr(files, "PIECE", 8192)
    boto3.client("s3").put_object(Bucket=bucket, Key="old/dump #1?.gz", Body=packed)
    name = f"s3://{bucket}/old/dump #1?.gz"
    with opened(name) as file:
        lines = list(file.lines(0))
        assert (file.identity, file.share) == (name, 1.0)
    assert [line.content for line in lines] == LINES
    assert contents(name, lines[99].end) == LINES[100:]


def test_an_object_that_changes_meanwhile_or_is_not_there_is_named(bucket, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 8192)
    s3 = boto3.client("s3")
    s3.put_object(Bucket=bucket, Key="dump", Body=CONTENT)
    with opened(f"s3://{bucket}/dump") as file:
        lines = file.lines(0)
        next(lines)
        s3.put_object(Bucket=bucket, Key="dump", Body=CONTENT + b"{}\n")
        with pytest.raises(BadInputError, match="dump: it has changed since it was opened"):
            list(lines)
    with pytest.raises(BadInputError, match="there is no such object"), opened(f"s3://{bucket}/other"):
        pass


BEGINNINGS = st.sampled_from(
    [b"", b"\x1f\x8b\x08", *(packed[:60] for packed in PACKED.values()), b'{"created": "']
)


@given(st.tuples(BEGINNINGS, st.binary(max_size=300)).map(b"".join))
def test_any_bytes_are_read_left_out_or_refused(content):
    raw = io.BufferedReader(io.BytesIO(content))
    file = File("dump", None, {}, raw, files._uncompressed(raw))
    try:
        for batch in importer.batches(file, 0, None):
            assert batch.total
    except BadInputError:
        assert content[:2] == b"\x1f\x8b" or content[:4] == b"\x28\xb5\x2f\xfd"


def test_a_number_that_python_refuses_is_no_crash():
    raw = io.BufferedReader(io.BytesIO(b"9" * 5000 + b"\n" + b"[" * 5000))
    [batch] = importer.batches(File("dump", None, {}, raw, raw), 0, None)
    assert len(batch.unreadable) == 2
    with pytest.raises(PoisonError):
        useraction(9, None)
