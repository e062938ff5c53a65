"""What any program needs: errors and their wording, files, processes, signals, ranks, the terminal."""
