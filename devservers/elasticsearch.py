"""A real, minimal Elasticsearch: see `devservers.cluster`.

It has index templates, bulk, search, aggregations and security, but not `GET /`, `_delete_by_query`,
`_update_by_query`, `_reindex`, scripts, ingest processors, data streams and ES|QL.

One thing is added: the char filter `mapping`, which the templates need to accept 0/1 and true/false as `is_live`.
Every released Elasticsearch has it in its module analysis-common; here a small plugin provides Lucene's class.
"""

from pathlib import Path

from devservers import cluster

_PLUGIN_DESCRIPTOR = """\
name=mapping-char-filter
description=stands in for the char filter of analysis-common
version=1
elasticsearch.version={version}
java.version=17
classname=uaharvest.MappingCharFilterPlugin
"""


def _complete(home: Path, version: str) -> None:
    cluster.add_java(home)
    plugin = home / "plugins" / "mapping-char-filter"
    plugin.mkdir(parents=True)
    (plugin / "plugin-descriptor.properties").write_text(_PLUGIN_DESCRIPTOR.format(version=version))
    cluster.compile_into(plugin / "mapping-char-filter.jar", "MappingCharFilterPlugin.java", home)


def _settings(_: str) -> dict[str, str]:
    return {"xpack.security.autoconfiguration.enabled": "false", "xpack.security.enabled": "false"}


def _security(_: str) -> dict[str, str]:
    # Requests without credentials may do everything; any credentials must be valid. (None are: users and API keys
    # need an index that the minimal server cannot create.)
    return {
        "xpack.security.enabled": "true",
        "xpack.security.authc.anonymous.roles": "superuser",
        "xpack.security.authc.api_key.enabled": "true",
    }


PRODUCT = cluster.Product(
    name="elasticsearch",
    title="Elasticsearch",
    prefix="ES",
    artifact="org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip",
    versions=("8.19.0", "9.1.0"),
    complete=_complete,
    settings=_settings,
    security=_security,
)
