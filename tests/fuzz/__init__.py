"""Random bytes at what strangers can reach: the door, the rule loader, the HTTP side."""
