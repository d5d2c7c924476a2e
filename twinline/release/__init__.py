"""From a registered encoder to an active release: registry, publish, build, verify, switch."""
