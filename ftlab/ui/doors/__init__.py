"""Who may come in: hosts, logins, the owner, and how often."""
