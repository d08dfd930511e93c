"""An Opencast that can be scripted: its own process, the standard library only.

It answers `/usertracking/actions.json`, `/search/episode.json` and the workflow endpoints as the real
server does (docs: `reference/opencast.md`), with the faults that a harvester has to live with, counts what
it was asked, and knows the truth: every id of a window. Start it with `python -m simulators.opencast --help`.

What is known of Harvard DCE's private fork is little; that its `start` and `end` are inclusive, to the
second, and local wall time of the server are assumptions that this simulator shares with the old tool.
"""
