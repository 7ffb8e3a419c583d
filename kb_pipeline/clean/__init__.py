"""HostScheduler raw bytes into readable documents, or says why not."""
