"""Useractions of a stock Opencast: days, reconciled by counts. docs/opencast-stock.md shows why nothing is lost."""

from uaharvest.streams.stock.stream import StockUseractions

__all__ = ["StockUseractions"]
