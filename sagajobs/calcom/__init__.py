"""Cal.com's API v2: a client that knows what its answers mean, and a simulator that misbehaves on request."""
