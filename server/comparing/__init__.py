"""Finished runs side by side: what differs between them, and what each of them reached."""
