"""Skew between training and serving: every hop of a served release measured against its golden texts, in causal order."""
