"""How fast the whole way harvests, beside a floor in the same run: `python -m benchmarks`, or `make bench`."""
