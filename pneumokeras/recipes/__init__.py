"""The reference systems as data, and what runs them."""
