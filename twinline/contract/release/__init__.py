"""A release on disk: manifest, folder, published models, index settings, verdict and checks."""
