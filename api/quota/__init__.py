"""What the caller's tenant may use, and what it uses."""
