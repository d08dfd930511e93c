"""The stream of Zoom meetings. A window is one day (UTC); a slice is one meeting or one host."""

from uaharvest.streams.zoom.stream import Meetings

__all__ = ["Meetings"]
