"""Problems, benchmarks, and how they are shared out among agents."""
