"""What runs in the environments of the clients: each talks to the service as its users do, and prints JSON."""
