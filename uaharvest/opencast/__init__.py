"""The Opencast side: the client, what it answers made regular at the door, and the episode cache."""
