"""One module per stream with its spec; cheap to import, because every process imports them."""
