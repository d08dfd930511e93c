"""A demo harvest: the production code with small real servers on this machine."""
