"""Compares the whole pipeline's speed with a floor in the same run: `python -m benchmarks`, or `make bench`."""
