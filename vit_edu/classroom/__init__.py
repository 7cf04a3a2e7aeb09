"""The instructor's side: editions, and what builds them."""
