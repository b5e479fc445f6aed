"""Histories of sagas as other versions of the code have left them, kept in files: `histories/STORY-vN.jsonl`.

    python -m tests.recorded             # those of the present versions that are missing
    python -m tests.recorded STORY …     # these anew

A file holds what was on record, here and at Cal.com, after each commit and each call of one saga. The tests restore
each of these prefixes and have the present code finish it. So a file is kept for as long as a saga that was begun by
its version may be in flight anywhere; of which version it is, it says itself.
"""
