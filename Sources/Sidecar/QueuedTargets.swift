package import Base
internal import Model

extension RuntimeContext {
  /// Whether systemd reboots this machine.
  package var reboots: Bool { get async { await isQueued(["reboot.target", "kexec.target"]) } }

  /// Whether systemd is about to reach one of these targets, such as `reboot.target`; false where it does not say.
  package func isQueued(_ targets: [String]) async -> Bool {
    guard system.isBootedBySystemd else { return false }
    do {
      let jobs = try await launcher.run(.systemctl("list-jobs", "--no-legend"), timeout: .seconds(5))
      return targets.contains { jobs.output.contains($0) }
    } catch {
      log.warning("cannot ask systemd whether this machine shuts down", ["reason": .string(error.explained)])
      return false
    }
  }
}
