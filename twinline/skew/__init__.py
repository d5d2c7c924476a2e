"""Where training and serving could differ, looked at; and beside it, how the world has changed."""
