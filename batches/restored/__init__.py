"""After a restore: what the database does not know of, and what an operator decides about it."""
