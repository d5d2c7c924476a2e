"""Make a trained encoder ready to serve: export, prove parity, package as a release."""
