"""Log against index: the expected state of every document, its stored state, and the repair of differences.

expected    the log, after the snapshot of its expired part, folded as a consumer folds them
ledger      both sides in a SQLite file, so that memory does not grow with the index
compare     one document: its expected points, and the faults of the stored ones
target      the collection: served by the online process, or on a Qdrant server
measure     one comparison, from catching up to the report
repair      the log's own messages through `handle()` again, and stray points removed
"""
