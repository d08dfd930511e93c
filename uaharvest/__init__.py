"""Harvests what happened in Opencast and Zoom; the library, which never imports Celery."""
