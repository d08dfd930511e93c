"""A scriptable Opencast, in its own process, with the standard library only.

It answers `/usertracking/actions.json`, `/search/episode.json` and the workflow endpoints like the real server
(docs: `reference/opencast.md`), with the faults that a harvester must handle. It counts requests and knows the
truth: every id in a window. Start it with `python -m simulators.opencast --help`.

Little is known about Harvard DCE's private fork. Like the old tool, this simulator assumes that its `start` and
`end` are inclusive, precise to the second, and in the server's local wall time.
"""
