"""What sagajobs runs on: settings, servers (given or embedded), child processes."""
