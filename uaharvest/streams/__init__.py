"""The streams: each says how to find its next window, plan it into slices and work one slice."""
