"""Signs requests for Amazon OpenSearch Service (Signature Version 4) with botocore and boto3's own credentials."""

import hashlib
import re
from collections.abc import Callable

import boto3.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import NoCredentialsError

from uaharvest import aws
from uaharvest.errors import BadInputError

Sign = Callable[[str, str, bytes], dict[str, str]]
# A domain's host ends in REGION.es.amazonaws.com or aos.REGION.on.aws; a serverless one has aoss there.
_HOST = re.compile(r"\.([a-z0-9-]+)\.(es|aoss)\.amazonaws\.com(?:\.cn)?$|\.(aos|aoss)\.([a-z0-9-]+)\.on\.aws$")


def signer(host: str) -> Sign:
    """Return a function that signs a request: given its method, URL and body, it returns the headers to add.

    Credentials come from boto3's chain, which renews those of a role.

    Args:
        host: The host of ES_HOST. Its name says region and service; a custom domain's region is AWS_DEFAULT_REGION.

    Raises:
        BadInputError: No region is known.
    """
    session = boto3.session.Session()
    service, region = _scope(host)
    region = region or session.region_name or ""
    if not region:
        raise BadInputError(
            f"ES_AUTH=aws: the host '{host}' of ES_HOST names no AWS region. Set AWS_DEFAULT_REGION to the domain's."
        )

    def sign(method: str, url: str, body: bytes) -> dict[str, str]:
        with aws.translated("ES_AUTH=aws"):
            credentials = session.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            frozen = credentials.get_frozen_credentials()
        digest = {"X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}  # serverless requires it
        request = AWSRequest(method, url, data=body, headers=digest)
        SigV4Auth(frozen, service, region).add_auth(request)
        return dict(request.headers.items())

    return sign


def _scope(host: str) -> tuple[str, str]:
    """Return the service to sign for, and the region; "" if the host does not name it."""
    if (found := _HOST.search(host)) is None:
        return "es", ""
    service = found[2] or found[3]
    return ("es" if service == "aos" else service), found[1] or found[4]
