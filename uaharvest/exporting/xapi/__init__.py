"""xAPI statements: Video Profile 1.0 and virtual classroom, as JSON lines or sent to a learning record store."""
