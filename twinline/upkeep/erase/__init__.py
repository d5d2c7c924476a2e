"""Erasure of one document: remove it from every index and the dead letters, keep it out, and list where it still is.

removal    the mark, the tombstone, points, dead letters, the source state of publishing
holders    the places that still hold it: the log, snapshots, working folders, releases
receipt    the receipts, each chained to the one before it
flow       all of it, in order, each step safe to repeat
"""
