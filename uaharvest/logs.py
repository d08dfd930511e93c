"""Logs: readable lines on a terminal, one JSON object per line elsewhere; on stderr, and at Loggly if that is set."""

import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import structlog

from uaharvest import plain
from uaharvest.errors import HarvestError

if TYPE_CHECKING:
    from uaharvest.settings import Settings

# At debug level these libraries log what must not be logged: headers with tokens, URLs with account ids, personal
# data.
TALKATIVE = ("boto3", "botocore", "elastic_transport", "s3transfer", "sqlalchemy")

_Processors = list[structlog.typing.Processor]


def configure(level: str, settings: "Settings | None" = None) -> None:
    """Send structlog's and the standard library's log records to the same handlers.

    Args:
        level: Lowest level that is shown on stderr: debug, info, warning or error.
        settings: Choose the format, and whether and from which level on Loggly gets the records; None: no Loggly.
    """
    shared: _Processors = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr is not None and sys.stderr.isatty()
    console: _Processors = [
        _readable,
        structlog.dev.ConsoleRenderer(colors=terminal and not os.environ.get("NO_COLOR")),
    ]
    json: _Processors = [structlog.processors.JSONRenderer()]

    def formatter(last: _Processors) -> logging.Formatter:
        meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        processors: _Processors = [meta, structlog.processors.ExceptionRenderer(tracebacks), *last]
        return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=processors)

    chosen = (settings and settings.log_format) or ("console" if terminal else "json")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(level.upper())
    handlers[0].setFormatter(formatter(console if chosen == "console" else json))
    if settings and settings.loggly_token:
        # It takes requests, which most commands do not need.
        from uaharvest.loggly import LogglyHandler  # noqa: PLC0415

        loggly = LogglyHandler(settings.loggly_token, settings.loggly_tags)
        loggly.setLevel(settings.log_level.upper())
        loggly.setFormatter(formatter(json))
        handlers.append(loggly)
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(min(handler.level for handler in handlers))
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # These warn about every failed attempt, one of them with the whole URL. We report what fails for good.
    for name in ("urllib3", "elastic_transport.node_pool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _readable(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape foreign text, so that it cannot control the terminal; JSON escapes it anyway."""
    return {
        name: (plain.lines if name == "exception" else plain.one_line)(value) if isinstance(value, str) else value
        for name, value in event.items()
    }


def tracebacks(exc_info: structlog.typing.ExcInfo) -> str:
    """Return the traceback of an exception and of each of its causes.

    It has no values of variables, and the text of our own exceptions only: both may contain personal data and
    passwords.
    """
    exception: BaseException | None = exc_info[1]
    lines: list[str] = []
    while exception is not None:
        text = f": {plain.one_line(exception)}" if isinstance(exception, HarvestError) else ""
        lines += [f"{type(exception).__qualname__}{text}\n", *traceback.format_tb(exception.__traceback__)]
        exception = exception.__cause__ or (None if exception.__suppress_context__ else exception.__context__)
    return "".join(lines).rstrip()
