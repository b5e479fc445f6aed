"""Celery's settings for this deployment: `celery -A sagajobs worker|beat|flower` reads them here.

The defaults, each with its reason, stand in `sagajobs/celerydefaults.py`; broker and concurrency come from the
environment (`sagajobs settings`). Set here what your deployment knows better, in Celery's own names.
"""

# Flower shows what workers tell it. Telling costs a busy worker half its main loop: set this to False there.
worker_send_task_events = True

# SIGTERM ends a worker warm: the running step finishes. SIGQUIT ends it cold: it gets so many seconds, then is cut off.
worker_soft_shutdown_timeout = 20.0
