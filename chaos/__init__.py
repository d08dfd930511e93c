"""Breaks a site of real processes at random, while it harvests, and proves that nothing was lost."""
