"""Zoom's REST API, version 2: logging in, keeping its quotas, and reading meetings and who took part in them."""
