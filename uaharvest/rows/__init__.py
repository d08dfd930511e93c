"""Typed rows. The sources' clients return them, and documents and messages are built from them."""
