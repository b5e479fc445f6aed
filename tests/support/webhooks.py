"""The simulator's webhooks: something to tell of, and what was told."""


def deliveries(simulator):
    """Return every webhook that was sent, or would have been, in order."""
    return simulator.control("GET", "deliveries")["deliveries"]


def cancel(simulator, uid):
    """Cancel a booking as its host."""
    return simulator.api("POST", f"/v2/bookings/{uid}/cancel", {"cancellationReason": "rain"})
