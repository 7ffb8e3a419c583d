"""Opens the control plane's database, keeps its schema current and every tenant's rows apart."""
