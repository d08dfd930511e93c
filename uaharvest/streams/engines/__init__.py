"""One module per stream that builds its engine; imported only where an engine is built."""
