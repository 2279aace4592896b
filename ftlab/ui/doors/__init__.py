"""Access control: allowed hosts, logins, the owner, and rate limits."""
