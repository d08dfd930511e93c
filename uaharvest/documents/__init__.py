"""Pure functions from a source's rows to the records and documents that readers depend on."""
