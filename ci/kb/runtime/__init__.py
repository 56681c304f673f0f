"""What runs on a host, as root on somebody's: imports neither of the other rooms."""
