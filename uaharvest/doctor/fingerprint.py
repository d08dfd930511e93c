"""Digests of the settings, by which workers show that they have the same ones without revealing any.

Each setting that is not secret has a digest of its own, so that a difference can be named. All secrets share one digest
of eight bits. Whoever reads it at the broker learns too little to confirm a guess at one of them: every 256th wrong
guess has the same digest, and a second query gives the same digest again. A secret that differs goes unnoticed just as
rarely.
"""

import dataclasses
import hashlib
from collections.abc import Mapping

from uaharvest.settings import Settings

SECRETS = "secrets"
# These may differ by host: paths, and what a process logs.
_OF_A_HOST = frozenset({"ACCESS_LOG_FILE", "ES_CA_FILE", "GEOLITE_PATH", "LOG_LEVEL"})


def fingerprint(settings: Settings) -> dict[str, str]:
    """Return a digest by variable, and one of all secrets together."""
    digests: dict[str, str] = {}
    secrets = hashlib.sha256()
    for field in dataclasses.fields(settings):
        variable, text = field.metadata["variable"], f"{getattr(settings, field.name)}"
        if field.metadata["secret"]:
            secrets.update(f"{variable} {text}\0".encode())
        elif variable not in _OF_A_HOST:
            digests[variable] = hashlib.sha256(f"{variable} {text}".encode()).hexdigest()[:8]
    return {**digests, SECRETS: secrets.hexdigest()[:2]}


def differing(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return the names of settings whose digests differ."""
    return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
