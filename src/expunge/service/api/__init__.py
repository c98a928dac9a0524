"""The routes for programs, under ``/v1``, and those about the service itself."""
