"""Planted drift between training and serving: each fault must be refused or found, at the right place."""
