"""Ways to learn: each turns prepared pictures and a backbone into a `Trained` network."""
