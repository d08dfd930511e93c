"""What viewers watched: useractions to the intervals of a recording that were played, and measures of them.

Pure code on columns. NumPy because it took half the CPU time and memory of Polars and DuckDB here (docs/viewing.md).
"""
