"""Checks of the bucket: each permission, conditional writes, versioning and encryption."""

import contextlib
import secrets
from collections.abc import Iterator

from uaharvest import aws, lifecycle
from uaharvest.dead_letters import how_encrypted
from uaharvest.doctor.findings import Finding, fail, failed, ok, warn
from uaharvest.doctor.site import Site
from uaharvest.errors import HarvestError

CLOCK = "S3"
_NOT_SAID = frozenset({"ServerSideEncryptionConfigurationNotFoundError", "NoSuchBucketPolicy"})
_REFUSED_CONDITION = frozenset({409, 412})
_WRONG_ETAG = f'"{"0" * 32}"'


def bucket(site: Site) -> Iterator[Finding]:
    """List the bucket, which also shows whether it exists."""
    name = site.settings.bucket or ""
    try:
        answer = site.s3.list_objects_v2(Bucket=name, MaxKeys=1)
    except aws.ERRORS as error:
        if aws.absent(error):
            yield warn(
                f"bucket {name} does not exist",
                "Create it (the first harvest does, if the role has s3:CreateBucket), or correct"
                " S3_HARVEST_TS_BUCKET.",
                blocks=True,
            )
            return
        raise aws.translate(error, f"s3://{name}") from None
    if "IsTruncated" not in answer:
        raise aws.not_aws(f"s3://{name}", "S3")
    site.note_date(CLOCK, answer)
    yield ok(f"s3://{name} can be listed")


def objects(site: Site) -> Iterator[Finding]:
    """Write an object beside the watermark, read it, write it under conditions that do not hold, and delete it."""
    name, key = site.settings.bucket or "", f"{site.settings.watermark_key}.doctor-{secrets.token_hex(4)}"
    uri = f"s3://{name}/{key}"
    with aws.translated(uri):
        site.s3.put_object(Bucket=name, Key=key, Body=b"{}")
    yield ok("writable (s3:PutObject)")
    try:
        with aws.translated(uri):
            site.s3.get_object(Bucket=name, Key=key)["Body"].close()
        yield ok("readable (s3:GetObject)")
    except HarvestError as error:
        yield failed(error)
    else:
        yield _conditions(site, name, key)
    if site.settings.dead_letter_sse:
        yield _encrypted(site, name, key)
    with aws.translated(uri):
        site.s3.delete_object(Bucket=name, Key=key)
    yield ok("deletable (s3:DeleteObject)")


def _encrypted(site: Site, bucket: str, key: str) -> Finding:
    """Write and read an object that is encrypted as dead letters are: the role may lack the key."""
    try:
        with aws.translated(f"s3://{bucket}/{key}, encrypted as S3_DEAD_LETTER_SSE says"):
            site.s3.put_object(Bucket=bucket, Key=key, Body=b"{}", **how_encrypted(site.settings.dead_letter_sse))  # type: ignore[arg-type] # names of S3's arguments
            site.s3.get_object(Bucket=bucket, Key=key)["Body"].close()
    except HarvestError as error:
        return failed(error)
    return ok("dead letters can be written and read, encrypted as S3_DEAD_LETTER_SSE says")


def _conditions(site: Site, bucket: str, key: str) -> Finding:
    for header, condition in (("If-None-Match", {"IfNoneMatch": "*"}), ("If-Match", {"IfMatch": _WRONG_ETAG})):
        try:
            aws.put_object(site.s3, bucket, key, "{}", **condition)
        except aws.ERRORS as error:
            if aws.status(error) not in _REFUSED_CONDITION:
                return failed(aws.translate(error, f"s3://{bucket}/{key}, asked for a conditional write"))
        else:
            return fail(
                f"this store ignores {header}: of two workers that write at once, one would lose a watermark",
                "Use one that heeds conditional writes (AWS S3, MinIO, a current Ceph).",
            )
    return ok("honours If-Match and If-None-Match")


def versioning(site: Site) -> Iterator[Finding]:
    """Say whether old watermarks and dropped dead letters are kept; nothing depends on it."""
    try:
        answer = site.s3.get_bucket_versioning(Bucket=site.settings.bucket or "")
    except aws.ERRORS as error:
        yield _unseen("versioning", "s3:GetBucketVersioning", error)
        return
    on = answer.get("Status") == "Enabled"
    yield ok(
        "versioning on: the watermark is written at every tick, so let a lifecycle rule expire old versions"
        if on
        else "versioning off"
    )


def encryption(site: Site) -> Iterator[Finding]:
    """Say how objects are encrypted; writing and reading above shows that the key may be used."""
    try:
        answer = site.s3.get_bucket_encryption(Bucket=site.settings.bucket or "")
    except aws.ERRORS as error:
        if aws.code(error) in _NOT_SAID:
            yield warn(
                "objects are not encrypted at rest", "Switch default encryption on: dead letters are personal."
            )
            return
        yield _unseen("encryption", "s3:GetEncryptionConfiguration", error)
        return
    kinds = []
    with contextlib.suppress(KeyError, TypeError):
        rules = answer["ServerSideEncryptionConfiguration"]["Rules"]
        kinds = [rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] for rule in rules]
    yield ok(f"encrypted at rest ({', '.join(kinds) or 'by a rule of its own'})")


def expiry(site: Site) -> Iterator[Finding]:
    """Say whether dead letters expire by the rule that `setup dead-letters` installs, or by another of the bucket."""
    prefix = site.settings.dead_letter_prefix
    try:
        rules = lifecycle.rules(site.s3, site.settings.bucket or "")
    except aws.ERRORS as error:
        yield _unseen("expiry", "s3:GetLifecycleConfiguration", error)
        return
    days = lifecycle.days(rules, prefix)
    if days is None:
        yield ok(
            f"dead letters ({prefix}) are kept until they are replayed or dropped: manage.py setup dead-letters"
        )
    else:
        yield ok(f"dead letters ({prefix}) are deleted after {days} days")


def _unseen(what: str, action: str, error: Exception) -> Finding:
    """Return the finding for a property that only this command wants to see."""
    if aws.denied(aws.code(error)):
        return ok(f"{what} cannot be seen without {action}, which nothing else needs")
    return ok(f"{what} cannot be seen: this store answers {aws.code(error) or type(error).__name__}")
