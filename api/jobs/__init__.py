"""What repairs and analyses have in common as jobs: bodies, checks, routes."""
