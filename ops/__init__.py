"""What runs the platform: a server and a worker on one machine, and word of failed runs."""
