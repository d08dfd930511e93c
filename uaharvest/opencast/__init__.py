"""Opencast: the client, the parsing of its responses, and the episode cache."""
