"""Run the platform: Prefect server processes, `make up`, and notifications of failed runs."""
