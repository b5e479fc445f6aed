"""A small web application: customers book an appointment, watch what becomes of it, move it, cancel it."""
