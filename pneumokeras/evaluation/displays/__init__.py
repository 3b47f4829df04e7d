"""Figures in the manner of scikit-learn's Displays: each draws what it holds and computes nothing."""
