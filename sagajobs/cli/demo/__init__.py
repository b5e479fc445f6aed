"""`demo`: bookings that succeed, fail and time out while workers are killed, and what is left of it all: order."""
