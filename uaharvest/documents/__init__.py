"""Pure functions that build the records and documents readers depend on from a source's rows."""
