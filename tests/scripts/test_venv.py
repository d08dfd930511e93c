import os
import shutil
import subprocess
import sys

import pytest

from devservers import stack

# Stands in for a Python: tells VERSION, makes "virtual environments" that hold nothing but itself.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
    "-V ") echo "Python VERSION.1" ;;
    "-c import ensurepip"*) [ ! -e no-ensurepip ] ;;
    "-c "*) echo VERSION ;;
    "-m venv") rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m pip")
        [ ! -e interrupted ] || kill -s KILL $PPID
        [ ! -e disk-full ] || { echo "ERROR: No space left on device"; exit 1; }
        case "$*" in
            *" config list") cat pip-settings ;;
            *" uv=="*) [ ! -e uv ] || cp uv "${0%python}uv" ;;
            *" -r requirements-dev.txt "*) echo pip >>installed-by ;;
        esac ;;
esac
"""

FAKE_UV = """#!/bin/sh
echo "uv $UV_DEFAULT_INDEX $UV_INDEX $UV_FIND_LINKS $SSL_CERT_FILE" >>installed-by
[ ! -e uv-fails ]
"""

REQUIREMENTS = sorted(path.name for path in stack.ROOT.glob("requirements*.txt"))


@pytest.fixture
def project(tmp_path):
    """A copy of what the script reads, and a PATH on which no Python is."""
    for name in ["scripts/venv", *REQUIREMENTS, "constraints.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(stack.ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in [
        "cat",
        "cksum",
        "cp",
        "date",
        "dirname",
        "env",
        "grep",
        "head",
        "mkdir",
        "rm",
        "sed",
        "sort",
        "tail",
        "uniq",
    ]:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def put_python(project, version, name="python3"):
    python = project / "bin" / name
    python.write_text(FAKE_PYTHON.replace("VERSION", version))
    python.chmod(0o755)


def run(project, **environment):
    return subprocess.run(
        ["/bin/sh", project / "scripts" / "venv"],
        env={"PATH": str(project / "bin"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def failure(project, **environment):
    result = run(project, **environment)
    assert result.returncode == 1
    assert result.stdout == ""
    return result.stderr.removesuffix("\n")


def test_it_says_so_when_it_made_something_and_then_does_nothing_more(project):
    put_python(project, "3.12")
    assert run(project).stdout.startswith("Python 3.12 · virtual environment ready (")
    second = run(project)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


def test_a_changed_requirement_makes_it_anew(project):
    put_python(project, "3.12")
    run(project)
    (project / "requirements.txt").write_text("celery==5.7.1\n")
    assert "ready" in run(project).stdout


def test_another_python_asked_for_makes_it_anew(project):
    put_python(project, "3.12")
    run(project)
    put_python(project, "3.13", "other")
    assert run(project, PYTHON="other").stdout.startswith("Python 3.13 ")
    assert run(project).stdout == ""


@pytest.mark.parametrize("version", ["2.7", "3.10", "3.14"])
def test_a_python_that_does_not_fit_is_named_with_what_is_needed(project, version):
    put_python(project, version)
    assert failure(project) == (
        f"Python 3.11, 3.12 or 3.13 is needed; found: python3 is {version}."
        " Install one, or name it: PYTHON=/path/to/it"
    )


def test_no_python_at_all_is_said_too(project):
    assert "found: none." in failure(project)


def test_a_fit_python_beside_an_old_python3_is_found(project):
    put_python(project, "3.9")
    put_python(project, "3.11", "python3.11")
    assert run(project).stdout.startswith("Python 3.11 ")


def test_a_python_without_the_venv_module_names_the_package_to_install(project):
    put_python(project, "3.11")
    (project / "no-ensurepip").touch()
    assert failure(project) == (
        "python3 cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"
    )


def test_an_interrupted_installation_does_not_count_as_done(project):
    put_python(project, "3.12")
    (project / "interrupted").touch()
    assert run(project).returncode == -9
    (project / "interrupted").unlink()
    assert "ready" in run(project).stdout


def test_a_failed_installation_gives_pips_last_error_and_does_not_count_as_done(project):
    put_python(project, "3.12")
    (project / "disk-full").touch()
    assert failure(project) == (
        "The packages of requirements-dev.txt were not installed: ERROR: No space left on device."
        " What pip said: .venv/pip.log"
    )
    (project / "disk-full").unlink()
    assert "ready" in run(project).stdout


@pytest.fixture
def project_with_uv(project):
    put_python(project, "3.12")
    (project / "uv").write_text(FAKE_UV)
    (project / "uv").chmod(0o755)
    (project / "pip-settings").write_text(
        ":env:.find-links='/wheels'\n"
        "global.cert='/our.pem'\n"
        "global.extra-index-url='http://more/simple'\n"
        "global.find-links='/less-wanted'\n"
        "global.index-url='http://ours/simple'\n"
    )
    return project


def installed_by(project):
    return (project / "installed-by").read_text().splitlines()


def test_uv_installs_with_pips_settings(project_with_uv):
    assert "ready" in run(project_with_uv).stdout
    assert installed_by(project_with_uv) == ["uv http://ours/simple http://more/simple /wheels /our.pem"]


def test_pip_installs_what_uv_cannot(project_with_uv):
    (project_with_uv / "uv-fails").touch()
    assert "ready" in run(project_with_uv).stdout
    assert installed_by(project_with_uv)[1:] == ["pip"]


def test_pip_installs_where_no_index_may_be_asked(project_with_uv):
    with (project_with_uv / "pip-settings").open("a") as settings:
        settings.write("install.no-index='true'\n")
    assert "ready" in run(project_with_uv).stdout
    assert installed_by(project_with_uv) == ["pip"]


@pytest.mark.fault
@pytest.mark.long
def test_without_a_registry_one_line_names_the_log_of_the_real_pip(project):
    closed = f"http://{stack.HOST}:{stack.free_port()}/simple"
    settings = {"PIP_INDEX_URL": closed, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    for name in ["requirements-dev.txt", "constraints.txt"]:
        (project / name).write_text("celery==5.7.0\n")
    assert failure(project, PYTHON=sys.executable, **settings) == (
        "The packages of requirements-dev.txt were not installed: celery==5.7.0 is not to be had"
        " (is the package registry reachable? PIP_INDEX_URL, PIP_FIND_LINKS). What pip said: .venv/pip.log"
    )
    assert closed in (project / ".venv" / "pip.log").read_text()
