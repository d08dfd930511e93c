"""Runs, common to all streams: windows and slices, ledger, watermark, and the engine that advances them."""
