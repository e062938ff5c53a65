"""Many runs as one command: which runs a comparison needs, and how they are started and watched."""
