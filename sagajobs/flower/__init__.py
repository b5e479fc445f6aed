"""The Sagas tab of Flower: lists, one saga drawn, the review queue with its remedies, health.

`install` puts it there. It, `tab` and `handlers` are loaded by every `celery …` process on the machine, so they import
Flower and nothing heavy of ours; `pages` and what it imports are loaded with the first page that is asked for.
"""
