"""Imports useractions from files: what the old tool, elasticdump or `documents export` wrote."""
