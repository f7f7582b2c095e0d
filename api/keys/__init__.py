"""The keys of the caller's tenant."""
