"""What is known of releases, for people and for programs."""
