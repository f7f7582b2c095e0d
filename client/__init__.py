"""What people hold: the typed SDK and the modeconn command."""
