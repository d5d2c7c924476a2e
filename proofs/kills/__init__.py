"""Kill -9 of each participant at each step of a release."""
