"""Documents: their envelope, cleaning and cutting, and the ids that every path computes alike."""
