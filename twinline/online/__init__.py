"""The online process: one owner of the store, which answers searches and keeps the index fresh.

__main__    composes everything, waits for SIGTERM, stops it in order
service     which releases are served: serve, activate, retire
consuming   one consumer thread a release, restarted when that may help
admin       the same acts over HTTP, on loopback only
servers     HTTP servers on threads of their own
"""
