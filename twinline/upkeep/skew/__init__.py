"""Where training and serving stop agreeing: every hop of a served release measured against its golden texts, in causal order."""
