"""`/metrics`: what this host's processes count, how the host does, and how the service does, for Prometheus."""
