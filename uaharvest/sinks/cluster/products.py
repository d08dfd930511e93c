"""The two products: which one answers, and what they do differently."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from uaharvest.errors import BlockedError

EXPECTED = "Expected Elasticsearch 8 or 9, or OpenSearch 2.19 or 3"
# The tagline of OpenSearch's `GET /`. In compatibility mode it is all that tells it from Elasticsearch 7.10.
_OPENSEARCH_TAGLINE = "The OpenSearch Project"


@dataclasses.dataclass(frozen=True)
class Product:
    """What one of the products does in its own way.

    Attributes:
        name: Its name.
        oldest: The oldest version that is supported.
        header: A header that each of its responses has, and the value; None if there is none in all versions.
        privileges: What our user needs, for error messages.
        snapshot_path: Where a point in time of `{index}` is opened.
        snapshot_id: The field of the answer that holds its id.
        close: Returns path and body of the request that closes a point in time, by its id.
        parts: Returns the searches that together find each document of a point in time once, by the answer that
            opened it. Each is read page by page.
        policy_path: Where a policy for the life of indices is kept, by `{name}`.
    """

    name: str
    oldest: tuple[int, int]
    header: tuple[str, str] | None
    privileges: str
    snapshot_path: str
    snapshot_id: str
    close: Callable[[str], tuple[str, dict[str, Any]]]
    parts: Callable[[Mapping[str, Any]], list[dict[str, Any]]]
    policy_path: str


def _slices(opened: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a search for each shard: `_doc` numbers the documents of one shard, and repeats in the next."""
    shards = int(opened["_shards"]["total"])
    if shards == 1:  # a slice of one is refused
        return [{"sort": ["_doc"]}]
    return [{"sort": ["_doc"], "slice": {"id": shard, "max": shards}} for shard in range(shards)]


ELASTICSEARCH = Product(
    name="Elasticsearch",
    oldest=(8, 0),
    header=("x-elastic-product", "Elasticsearch"),
    privileges="The API key or user needs read, create_index, write and view_index_metadata on the indices,"
    " and manage_index_templates on the cluster",
    snapshot_path="/{index}/_pit",
    snapshot_id="id",
    close=lambda id_: ("/_pit", {"id": id_}),
    parts=lambda _: [{"sort": ["_shard_doc"]}],
    policy_path="/_ilm/policy/{name}",
)
OPENSEARCH = Product(
    name="OpenSearch",
    oldest=(2, 19),
    header=None,
    privileges="The user needs the permissions read, write, create_index and indices:admin/aliases/get on the"
    " indices, and cluster:monitor/main, cluster_composite_ops and cluster_manage_index_templates on the cluster",
    snapshot_path="/{index}/_search/point_in_time",
    snapshot_id="pit_id",
    close=lambda id_: ("/_search/point_in_time", {"pit_id": [id_]}),
    parts=_slices,
    policy_path="/_plugins/_ism/policies/{name}",
)


def recognise(status: int, headers: Mapping[str, str], body: object, url: str) -> tuple[Product, str] | None:
    """Return the product that gave this answer to `GET /`, and its version, "" if it does not say.

    Elasticsearch names itself in a header of each response since 7.14, OpenSearch since 3.0. So both are recognised
    although the user may not read `GET /`. OpenSearch 2 names itself in the body only.

    Returns:
        None if the answer is an error, and nothing in it names a product.

    Raises:
        BlockedError: It is neither of them, or a version that is not supported.
    """
    number, distribution, tagline = _about(body)
    if headers.get("x-elastic-product") == "Elasticsearch":
        return _supported(ELASTICSEARCH, number, url)
    if distribution == "opensearch":
        return _supported(OPENSEARCH, number, url)
    if said := re.match(r"OpenSearch/([\d.]+)", headers.get("x-opensearch-version", "")):
        return _supported(OPENSEARCH, said[1], url)
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        return None
    if tagline.startswith(_OPENSEARCH_TAGLINE):
        raise BlockedError(
            f"OpenSearch at {url} passes itself off as {number}. Switch its compatibility mode off: set"
            " compatibility.override_main_response_version to false in the cluster's settings."
        )
    if number:
        raise BlockedError(
            f"What answers at {url} is version {number} of something without the header X-Elastic-Product. {EXPECTED}:"
            " check ES_HOST, and whether a proxy drops that header."
        )
    raise BlockedError(f"What answers at {url} is neither Elasticsearch nor OpenSearch. Check ES_HOST.")


def _about(body: object) -> tuple[str, str, str]:
    match body:
        case {"version": {"number": str(number), **version}, **rest}:
            return number, str(version.get("distribution", "")), str(rest.get("tagline", ""))
    return "", "", ""


def _supported(product: Product, version: str, url: str) -> tuple[Product, str]:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers and numbers < product.oldest:
        raise BlockedError(f"{product.name} at {url} is version {version}. {EXPECTED}.")
    return product, version
