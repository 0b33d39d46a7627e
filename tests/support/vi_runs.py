"""What ``ViModel`` is made with in the tests, as its document prints it."""

KEY, RUN, PHRASES = "your-secret-key", "your-run-id", "your-grounding-run"
ORGANIZATION = "your-organization-id"
