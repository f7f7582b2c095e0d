"""What the API and the worker share: settings, tables, job transitions, stored files."""
