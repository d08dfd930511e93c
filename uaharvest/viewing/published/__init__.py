"""Rules that others have published, by name, to compare with or to keep a course's history comparable.

They do as their authors' code does, mistakes included. docs/viewing.md says how they differ from `measures`.
"""
