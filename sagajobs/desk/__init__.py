"""What a person sees of sagas and does about them, whatever he looks at it with: command line or Flower.

Read-only queries, documents from which what is private has been taken out, and acts on many sagas at once. It knows
engine and bookings; surfaces know it, and it knows no surface.
"""
