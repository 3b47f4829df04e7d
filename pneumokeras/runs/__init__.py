"""One folder per training: its files, its trials, and what it gives back when it is finished."""
