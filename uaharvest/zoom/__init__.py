"""Zoom's REST API, version 2: authentication, rate limits, and reading meetings and their participants."""
