"""Log against index: what every document should be, what is stored of it, and the repair of what differs.

expected    the log, and the snapshot that covers what it no longer has, folded as a consumer folds them
ledger      both sides in a SQLite file, so that memory does not grow with the index
compare     one document: what its points should be, and what is wrong with those that are stored
target      the collection: served by the online process, or on a Qdrant server
measure     one comparison, from catching up to the report
repair      the log's own messages through `handle()` once more, and what belongs to no document removed
"""
