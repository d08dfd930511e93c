"""Compares what the sources have of a closed day with what is in the documents."""
