"""A proxy for protocols other than HTTP: before a Redis or a database, it breaks connections or answers by itself."""

import contextlib
import socket
import struct
import threading

HOST = "127.0.0.1"
# A Redis that does not serve yet answers these all the same.
LOGIN = {b"AUTH", b"HELLO", b"CLIENT", b"SELECT"}


class TcpProxy:
    """Passes everything on to a port of this host until a fault begins.

    Attributes:
        port: Where it listens.
        met: How often the fault was met.
    """

    def __init__(self, behind):
        self.port = 0
        self.met = 0
        self._behind = behind
        self._fault = None
        self._lock = threading.Lock()
        self._open = set()
        self._listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._refuse()

    def begin(self, fault):
        """Let a fault begin.

        Args:
            fault: `refuse` connections, `reset` them before an answer, give `half` of an answer and then a reset, keep
                `silent`; or bytes with which each request is answered.
        """
        self.met = 0
        self._fault = fault
        if fault == "refuse":
            self._refuse()

    def end(self):
        """Let the fault end, and with it all connections that it has harmed."""
        fault, self._fault = self._fault, None
        if fault == "refuse":
            self._listen()
        elif fault:
            self.drop()

    @contextlib.contextmanager
    def failing(self, fault):
        """Let a fault last for a while."""
        self.begin(fault)
        try:
            yield self
        finally:
            self.end()

    def _listen(self):
        self._listener = socket.create_server((HOST, self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _refuse(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self):
        """End all connections."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            reset(end)

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection((HOST, self._behind))
            except OSError:
                return
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(client, server), daemon=True).start()

    def _requests(self, client, server):
        with contextlib.suppress(OSError):
            for request, is_login in self._read(client):
                fault = None if is_login and isinstance(self._fault, bytes) else self._fault
                self.met += fault is not None
                if fault == "reset":
                    break
                if isinstance(fault, bytes):
                    client.sendall(fault)
                elif fault != "silent":
                    server.sendall(request)
        self._close(client, server)

    def _answers(self, client, server):
        with contextlib.suppress(OSError):
            while answer := server.recv(65536):
                if self._fault == "half":
                    client.sendall(answer[: len(answer) // 2])
                    break
                if self._fault != "silent":
                    client.sendall(answer)
        self._close(client, server)

    def _close(self, *ends):
        with self._lock:
            self._open -= set(ends)
        for end in ends:
            reset(end)

    def _read(self, client):
        """Return what a client sends, piece by piece, and whether it belongs to the login."""
        while piece := client.recv(65536):
            yield piece, False


class RedisProxy(TcpProxy):
    """Reads command by command, so that each can be answered."""

    def _read(self, client):
        with client.makefile("rb") as stream:
            while line := stream.readline():
                command, name = [line], b""
                for _ in range(int(line[1:])):
                    command.append(stream.readline())
                    command.append(stream.read(int(command[-1][1:]) + 2))
                    name = name or command[-1].strip().upper()
                yield b"".join(command), name in LOGIN


def reset(end):
    """End a connection at once, with a reset."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)  # wakes who reads, and says nothing to the other side
    end.close()
