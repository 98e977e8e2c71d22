"""What data looks like, on the wire and in the database. Imports nothing of ours."""
