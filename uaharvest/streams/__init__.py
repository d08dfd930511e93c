"""The streams. Each knows how to find its next window, plan it into slices and work on a slice."""
