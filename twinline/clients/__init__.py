"""The outside world, one file each: every vendor error becomes one of ours here."""
