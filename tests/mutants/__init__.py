"""The engine broken on purpose, one guarantee at a time, to see that a test notices (`make mutants`)."""
