"""Lifecycle rules of the bucket, which delete dead letters after some days."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from uaharvest import aws

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

RULE = "uaharvest-dead-letters"
_NONE = "NoSuchLifecycleConfiguration"


def rules(s3: "S3Client", bucket: str) -> list[Any]:
    """Return the rules of a bucket; raises one of `aws.ERRORS`, not translated."""
    try:
        return list(s3.get_bucket_lifecycle_configuration(Bucket=bucket).get("Rules", ()))
    except aws.ERRORS as error:
        if aws.code(error) != _NONE:
            raise
        return []


def days(rules: Sequence[Mapping[str, Any]], prefix: str) -> int | None:
    """Return after how many days objects with this prefix are deleted; None: never."""
    found = [
        rule["Expiration"]["Days"]
        for rule in rules
        if rule.get("Status") == "Enabled"
        and "Days" in rule.get("Expiration", {})
        and (of := _prefix(rule)) is not None
        and prefix.startswith(of)
    ]
    return min(found, default=None)


def expire(s3: "S3Client", bucket: str, prefix: str, days: int) -> None:
    """Add our rule to the bucket, or change it: delete objects with this prefix, and versions that were replaced.

    Raises:
        BlockedError: S3 refuses.
        RetryableError: S3 cannot be reached.
    """
    rule: Any = {
        "ID": RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "Expiration": {"Days": days},
        # In a bucket with versioning, what is dropped would stay for ever.
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    }
    with aws.translated(f"s3://{bucket}"):
        try:
            others = [one for one in rules(s3, bucket) if one.get("ID") != RULE]
        except aws.ERRORS as error:
            if aws.code(error) != "NoSuchBucket":
                raise
            aws.create_bucket(s3, bucket)
            others = []
        s3.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={"Rules": [*others, rule]},
        )


def _prefix(rule: Mapping[str, Any]) -> str | None:
    """Return the prefix of a rule; None if it is about objects with certain tags or sizes."""
    chosen = rule.get("Filter") or {"Prefix": rule.get("Prefix", "")}
    return str(chosen["Prefix"]) if chosen.keys() == {"Prefix"} else None
