"""The sample registry: real models on scikit-learn's own data, and the history people gave them."""
