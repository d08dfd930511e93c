"""Exports of the documents: the old tool's CSV products, xAPI statements, and Parquet files (docs/export.md)."""
