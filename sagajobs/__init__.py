"""Sagas on Celery."""
