"""Readers of other people's bytes run in a disposable child process.

reader.py      the parent's side: one request at a time, limits of time and memory, a reject for every way to fail
__main__.py    the child: it calls the reader functions and answers in frames of JSON
frames.py      the form of requests and answers
confine.py     what the kernel denies the child: files, network, programs, other processes
"""
