"""Redis scripts. Each is a file whose head describes its KEYS and ARGV.

A line `-- include NAME` is replaced by the contents of NAME.lua.
"""

import functools
import re
from importlib import resources

import redis
from redis.commands.core import Script

_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)


def script(client: "redis.Redis", name: str) -> Script:
    """Return the script NAME.lua for `client`; call it with `keys` and `args`."""
    return client.register_script(source(name))


@functools.cache
def source(name: str) -> str:
    """Return the text of NAME.lua with its includes."""
    text = resources.files(__name__).joinpath(f"{name}.lua").read_text("utf-8")
    return _INCLUDE.sub(lambda line: source(line[1]), text)
