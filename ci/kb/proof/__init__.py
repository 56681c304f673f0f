"""What proves notebooks: finds them, runs them on hosts, judges and records. Imports runtime."""
