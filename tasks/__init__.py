"""The Celery layer: a task parses its arguments, calls the library and maps errors."""

from tasks.app import app

__all__ = ["app"]
