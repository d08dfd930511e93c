"""A real learning record store: Ralph, which keeps its statements in Elasticsearch.

Its virtual environment is in .cache, and is made when it is first needed.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from devservers import stack
from devservers.stack import HOST, ROOT, Child
from uaharvest.errors import HarvestError

_REQUIREMENTS = ROOT / "requirements-lrs.txt"
_HASH = "import bcrypt, sys; print(bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt(4)).decode())"


class CannotInstallError(HarvestError):
    """Its packages cannot be installed."""


def serve(elasticsearch: str, index: str, user: str, password: str) -> Child:
    """Start a Ralph; the first start installs it.

    Args:
        elasticsearch: The URL of its Elasticsearch.
        index: The index for its statements.
        user: The user that it accepts.
        password: The password of that user.

    Raises:
        CannotInstallError: Its packages cannot be downloaded.
        HarvestError: It does not start.
    """
    python = install() / "bin" / "python"
    digest = _run([str(python), "-c", _HASH, password])

    def build(port: int) -> Child:
        folder = Path(tempfile.mkdtemp(prefix="uaharvest-ralph-"))
        environment = {
            "RALPH_APP_DIR": str(folder),
            "RALPH_AUTH_FILE": str(folder / "auth.json"),
            "RALPH_BACKENDS__LRS__ES__HOSTS": elasticsearch,
            "RALPH_BACKENDS__LRS__ES__DEFAULT_INDEX": index,
            "RALPH_RUNSERVER_BACKEND": "es",
        }
        agent = {"mbox": "mailto:uaharvest@example.edu"}
        accepted = {"agent": agent, "scopes": ["all"], "username": user, "hash": digest}
        (folder / "auth.json").write_text(json.dumps([accepted]))
        return Child(
            "Ralph",
            [str(python), "-m", "uvicorn", "ralph.api:app", "--host", HOST, "--port", str(port)],
            _answers,
            environment=environment,
            directory=folder,
            keep_directory=False,
            port=port,
            url=f"http://{HOST}:{port}/xAPI",
        )

    return stack.on_port(build, None)


def _answers(child: Child) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{child.port}/__lbheartbeat__", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def install() -> Path:
    """Return its virtual environment, which is made if it is not there; raises CannotInstallError."""
    named = hashlib.sha256(f"{sys.version} {_REQUIREMENTS.read_text()}".encode()).hexdigest()[:12]
    cache = ROOT / ".cache"
    home = cache / f"ralph-{named}"
    if home.is_dir():
        return home
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ralph-", dir=cache) as temporary:
        made = Path(temporary) / "made"
        _run([sys.executable, "-m", "venv", "--without-pip", str(made)])
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--python",
            str(made / "bin" / "python"),
        ]
        _run([*pip, "install", "-q", "--no-deps", "-r", str(_REQUIREMENTS)])
        try:
            made.rename(home)  # atomic: complete or not at all
        except OSError:
            if not home.is_dir():  # otherwise another process was faster
                raise
    return home


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise CannotInstallError(f"Ralph cannot be installed: {last[:300]}")
    return done.stdout.strip()
