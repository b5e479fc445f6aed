"""Applications that use sagajobs."""
