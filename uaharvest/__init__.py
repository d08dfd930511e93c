"""Harvests useractions and episodes from Opencast and meetings from Zoom; this library never imports Celery."""

__version__ = "0.1.0"
