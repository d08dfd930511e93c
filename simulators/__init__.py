"""Simulators of Opencast and Zoom that answer like the real servers, for the demo, tests and benchmarks."""
