"""A harvest to watch: the production code, against small real servers on this machine."""
