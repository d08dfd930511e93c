"""Finds, exports and erases one person in all stores."""
