"""A server that never comes to the end of its answer."""

import contextlib
import socket
import threading


@contextlib.contextmanager
def dripping():
    """Serve an answer of which a byte comes every few milliseconds; give the URL."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                        while not ended.wait(0.02):
                            connection.sendall(b" ")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/oauth/token"
        finally:
            ended.set()
            with contextlib.suppress(OSError), socket.create_connection(listener.getsockname(), 1):
                pass
            thread.join(5)
