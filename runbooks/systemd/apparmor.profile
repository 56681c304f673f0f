# Written by the runbook systemd/apparmor. Rules of your own belong in /etc/apparmor.d/local/@SERVICE@.
# The runbook's rollback asks here:
#health @HEALTH@
abi <abi/4.0>,
include <tunables/global>

profile @SERVICE@ @BINARY@ @FLAGS@{
  include <abstractions/base>

  # The program itself.
  @BINARY@ mr,

  # What Go reads: the CPU limit of its cgroup (since 1.25), and the length of a listener's queue.
  @{PROC}/@{pid}/{cgroup,mountinfo} r,
  @{sys}/fs/cgroup/**/cpu.max r,
  @{PROC}/sys/net/core/somaxconn r,

  # TCP. Below port 1024 it takes the capability, too; the unit gives it, this leaves it.
  network inet stream,
  network inet6 stream,
  capability net_bind_service,

  # Name resolution and certificates, for a service that connects to others.
  include <abstractions/nameservice>
  include <abstractions/ssl_certs>

  # Settings are read, state is written, logs are written and not read. Nothing may be executed.
  @CONFIG@/{,**} r,
  @STATE@/{,**} r,
  @STATE@/** rwk,
  @LOGS@/*.log w,

  # Readiness, for Type=notify.
  @{run}/systemd/notify w,

  include if exists <local/@SERVICE@>
}
