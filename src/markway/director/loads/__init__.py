"""Reading how loaded a backend is: one module for each source."""
