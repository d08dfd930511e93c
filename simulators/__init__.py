"""Servers that answer as the real ones do, used by the demo, the tests and the benchmarks."""
