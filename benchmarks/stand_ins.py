"""`python -m benchmarks.stand_ins`: a queue that only counts, or a relay that delays; ends when it is killed.

ministack keeps all messages and scans them, which is too slow for ten million of them.
"""

import argparse
import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from devservers import stack
from devservers.stack import HOST, ROOT, Child

_ID = re.compile(rb'\\"action_id\\":(\d+)')
_ENTRY = re.compile(rb'"Id": ?"(\d+)"')
_ATTRIBUTES = {"MaximumMessageSize": "1048576", "MessageRetentionPeriod": "1209600"}


def counting_queue() -> Child:
    """Start an SQS that confirms and counts all events; GET / returns `count` and `sum` of their ids and forgets them.

    Raises:
        HarvestError: It does not start.
    """
    return stack.on_port(lambda port: _child("queue", port), None)


def relay(port: int, delay: float) -> Child:
    """Start a relay to a local `port`, which holds what a client sends for `delay` seconds.

    Raises:
        HarvestError: It does not start.
    """
    return stack.on_port(lambda own: _child("relay", own, "--to", str(port), "--delay", str(delay)), None)


def _child(role: str, port: int, *options: str) -> Child:
    return Child(
        role,
        [sys.executable, "-m", "benchmarks.stand_ins", role, "--port", str(port), *options],
        stack.says("listening"),
        environment={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        port=port,
        url=f"http://{HOST}:{port}",
    )


class _Queue:
    def __init__(self) -> None:
        self._count = self._sum = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(size[1]) if size else 0)
                target = re.search(rb"(?i)\r\nx-amz-target: *AmazonSQS\.(\w+)", head)
                content = json.dumps(self._answer(target[1].decode() if target else "", head, body)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
                await writer.drain()
        writer.close()

    def _answer(self, operation: str, head: bytes, body: bytes) -> Mapping[str, Any]:
        match operation:
            case "SendMessageBatch":
                ids = [int(found) for found in _ID.findall(body)]
                self._count += len(ids)
                self._sum += sum(ids)
                return {"Successful": [{"Id": found.decode()} for found in _ENTRY.findall(body)]}
            case "GetQueueAttributes":
                return {"Attributes": _ATTRIBUTES}
            case "":
                counted = {"count": self._count, "sum": self._sum}
                self._count = self._sum = 0
                return counted
        host = re.search(rb"(?i)\r\nhost: *([^\r]+)", head)
        return {"QueueUrl": f"http://{host[1].decode() if host else HOST}/0/queue"}


async def _relay(port: int, delay: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    source_reader, source_writer = await asyncio.open_connection(HOST, port)

    async def copy(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter, wait: float) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await incoming.read(1 << 20):
                if wait:
                    await asyncio.sleep(wait)
                outgoing.write(piece)
                await outgoing.drain()
        outgoing.close()

    await asyncio.gather(copy(reader, source_writer, delay), copy(source_reader, writer, 0))


async def _main(options: argparse.Namespace) -> None:
    async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _relay(options.to, options.delay, reader, writer)

    serve = _Queue().serve if options.role == "queue" else relayed
    async with await asyncio.start_server(serve, HOST, options.port, limit=1 << 21) as server:
        print("listening")
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stand_ins", description=__doc__)
    parser.add_argument("role", choices=("queue", "relay"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", type=int)
    parser.add_argument("--delay", type=float, default=0)
    asyncio.run(_main(parser.parse_args()))
