"""Celery and nothing else: a task parses its arguments, calls the library, maps errors."""

from tasks.app import app

__all__ = ["app"]
