"""Writes a report as a folder of static pages, which open from disk without a network, and CSV files beside them."""
