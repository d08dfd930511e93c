"""Runs, the same for every stream: windows and slices, ledger, watermark, and the engine that advances them."""
