"""What tests and benchmarks share: databases, campaigns, senders as processes, and servers with faults."""
