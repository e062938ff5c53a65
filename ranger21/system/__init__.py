"""General services: errors and their wording, files, locks, processes, signals, ranks and the terminal."""
