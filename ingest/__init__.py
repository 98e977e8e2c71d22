"""The way of one reading, from the broker to the database and back as an acknowledgement."""
