"""A finished run judged again, in more detail: more episodes, shots, step counts and baselines."""
