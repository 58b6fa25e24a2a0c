"""A consortium's folder: who takes part, keys and certificates, and what each machine is given."""
