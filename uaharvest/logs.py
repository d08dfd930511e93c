"""Logs: readable lines on a terminal, one JSON object per line elsewhere; always on stderr."""

import logging
import sys
import traceback

import structlog

from uaharvest.errors import HarvestError


def configure(level: str) -> None:
    """Send structlog's and the standard library's records the same way.

    Args:
        level: Least level that is logged: debug, info, warning or error.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(told),
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # It tells at each start where it found its credentials.
    logging.getLogger("botocore").setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def told(exc_info: structlog.typing.ExcInfo) -> str:
    """Return where an exception comes from, cause by cause.

    Not the values of variables, and of exceptions that are not our own no text: rows, that is people, and passwords
    stand in both.
    """
    exception: BaseException | None = exc_info[1]
    lines: list[str] = []
    while exception is not None:
        text = f": {exception}" if isinstance(exception, HarvestError) else ""
        lines += [f"{type(exception).__qualname__}{text}\n", *traceback.format_tb(exception.__traceback__)]
        exception = exception.__cause__ or (None if exception.__suppress_context__ else exception.__context__)
    return "".join(lines).rstrip()
