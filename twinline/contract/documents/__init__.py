"""Documents: how they travel, how they are cleaned and cut, and the ids that every path computes alike."""
