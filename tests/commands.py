"""Runs `manage.py` and `celery` in processes of their own, which have imported everything before they start.

Imports take most of the CPU time of a short command, and tests start hundreds. So one process imports what is needed,
and forks for each. Tests of the start itself run `manage.py` as a shell does.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANAGE = str(ROOT / "manage.py")
# tasks/ reads the settings while it is imported, so each command imports that itself.
MODULES = (
    "boto3",
    "celery.app.base",
    "celery.app.amqp",
    "kombu.transport.redis",
    "uaharvest.assembly",
    "uaharvest.cli",
)
NUMBER = 8  # bytes of a process id or an exit code
CELERY = [sys.executable, "-m", "celery"]
STDOUT, STDERR = 1, 2


def manage(*arguments, environment, cwd=None, timeout=120):
    """Run `manage.py` with these arguments, and with `environment` added to this process's own.

    Returns:
        The completed process, with what it wrote to stdout and stderr as text. Its stdin is empty.
    """
    assert environment.get("PYTHONPATH", str(ROOT)) == str(ROOT), "Python reads it at the start only"
    command = [MANAGE, *map(str, arguments)]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = Forked(command, {**os.environ, **environment}, cwd or Path.cwd(), stdout, stderr)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        written = []
        for file in (stdout, stderr):
            file.seek(0)
            written.append(file.read().decode())
    return subprocess.CompletedProcess(command, process.returncode, *written)


def launch(command, *, env, cwd, stdout, **options):
    """Start a process as `devservers.stack.Child` does: forked if it is Celery and Python starts as usual."""
    if command[:3] == CELERY and env["PYTHONPATH"] == str(ROOT):
        return Forked(["celery", *command[3:]], env, cwd, stdout, stdout)
    return subprocess.Popen(command, env=env, cwd=cwd, stdout=stdout, **options)


class Forked:
    """A running command, with the part of Popen's interface that tests use. It leads a session of its own."""

    def __init__(self, argv, environment, cwd, stdout, stderr):
        self.args = argv
        self.returncode = None
        self._answers, theirs = socket.socketpair()
        with theirs:
            descriptors = [theirs.fileno(), stdout.fileno(), stderr.fileno()]
            socket.send_fds(_forker(), [b"fork"], descriptors)
        request = {"argv": argv, "environment": environment, "cwd": str(cwd)}
        self._answers.sendall(json.dumps(request).encode() + b"\n")
        self.pid = self._number()

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._number()
            self._answers.close()
        return self.returncode

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def _number(self):
        answer = self._answers.recv(NUMBER)
        if len(answer) < NUMBER:
            raise ConnectionError("the process that forks has ended")
        return int.from_bytes(answer, "big", signed=True)


@functools.cache
def _forker():
    """Return a socket to the process that forks, which ends with this one."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end it before the test
        )

    def close():
        ours.close()
        process.wait()

    atexit.register(close)
    return ours


# The process that forks


def _serve(listener):
    """Fork for each request until the other end is closed; return only in a process that is to be a command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel removes those that wait
    while True:
        _, descriptors, _, _ = socket.recv_fds(listener, 16, 3)
        if not descriptors:
            sys.exit()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            return _wait(socket.socket(fileno=descriptors[0]), *descriptors[1:])
        for descriptor in descriptors:
            os.close(descriptor)


def _wait(connection, stdout, stderr):
    """Fork the command and report how it ends: it needs a parent that waits, while others are started."""
    with connection.makefile("rb") as reader:
        request = json.loads(reader.readline())
    if pid := os.fork():
        connection.sendall(pid.to_bytes(NUMBER, "big"))
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # the test has gone
            connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(NUMBER, "big", signed=True))
        os._exit(0)
    connection.close()
    os.setsid()
    for descriptor, standard in ((stdout, STDOUT), (stderr, STDERR)):
        os.dup2(descriptor, standard)
    os.closerange(STDERR + 1, max(stdout, stderr) + 1)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["cwd"])
    sys.argv = request["argv"]


if __name__ == "__main__":
    del sys.path[0]  # this folder
    for module in MODULES:
        importlib.import_module(module)
    from uaharvest import cli

    for module, _ in cli.COMMANDS.values():
        importlib.import_module(f"uaharvest.cli.{module}")
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    if sys.argv[0] == MANAGE:
        runpy.run_path(MANAGE, run_name="__main__")
    else:
        runpy.run_module("celery", run_name="__main__")
