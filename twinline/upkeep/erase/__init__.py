"""Erasure of one document: out of every index and the dead letters, kept out from then on, and an account of where it still is.

removal    the mark, the tombstone, points, dead letters, what was remembered of publishing
holders    what still holds it: the log, snapshots, working folders, releases
receipt    the account, each chained to the one before it
flow       all of it, in order, each step safe to repeat
"""
