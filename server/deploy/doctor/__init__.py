"""Whether a site can take part, and what to do if it cannot."""
