"""The servers of `manage.py dev` as containers: drives `docker compose` with docker-compose.yml of this folder."""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from devservers import cluster, stack
from devservers.stack import HOST
from uaharvest.errors import HarvestError

FILE = Path(__file__).with_name("docker-compose.yml")
DASHBOARDS = {"elasticsearch": "Kibana", "opensearch": "OpenSearch Dashboards"}
_ASK_SECONDS = 20
_UP_SECONDS = 900  # the images are downloaded first


class Engine:
    """A Docker engine with compose, for one project."""

    def __init__(self, folder: Path) -> None:
        """Use a project of its own for each folder, so that two checkouts do not share containers."""
        self._project = f"uaharvest-dev-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"

    @staticmethod
    def available() -> bool:
        """Tell whether Docker is here, has compose, and its engine answers."""
        if shutil.which("docker") is None:
            return False
        try:
            for question in (["docker", "compose", "version"], ["docker", "info"]):
                subprocess.run(question, check=True, capture_output=True, timeout=_ASK_SECONDS)  # noqa: S603
        except (subprocess.SubprocessError, OSError):
            return False
        return True

    @contextlib.contextmanager
    def started(self, documents: str) -> Iterator[list[tuple[str, str]]]:
        """Start the containers; return name and URL of Redis, of SQS and S3, and of the document store's servers.

        Raises:
            HarvestError: They do not start.
        """
        ports = [stack.free_port() for _ in range(4)]
        names = ("REDIS_PORT", "AWS_PORT", "DOCUMENTS_PORT", "DASHBOARDS_PORT")
        variables = dict(zip(names, map(str, ports), strict=True))
        servers = [("Redis", f"redis://{HOST}:{ports[0]}/0"), ("SQS and S3 stand-in", f"http://{HOST}:{ports[1]}")]
        profile = []
        if documents != "sqlite":
            product, version = cluster.parse(documents)
            profile = ["--profile", product.name]
            variables["VERSION"] = version
            servers += [
                (f"{product.title} {version}", f"http://{HOST}:{ports[2]}"),
                (DASHBOARDS[product.name], f"http://{HOST}:{ports[3]}"),
            ]
        try:
            self._compose([*profile, "up", "--detach", "--wait"], variables)
            yield servers
        finally:
            self.down()

    def down(self) -> None:
        """Remove the containers and their data; they may be gone already.

        Raises:
            HarvestError: Docker does not answer.
        """
        profiles = [word for product in DASHBOARDS for word in ("--profile", product)]
        self._compose([*profiles, "down", "--volumes", "--remove-orphans"], {})

    def _compose(self, arguments: list[str], variables: dict[str, str]) -> None:
        command = ["docker", "compose", "--project-name", self._project, "--file", str(FILE), *arguments]
        try:
            done = subprocess.run(  # noqa: S603
                command,
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=_UP_SECONDS,
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            raise HarvestError(f"docker compose {arguments[-1]}: {type(error).__name__}.") from None
        if done.returncode:
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason given")
            raise HarvestError(f"docker compose failed: {last.strip()}")
