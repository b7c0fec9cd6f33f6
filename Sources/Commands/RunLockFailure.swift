internal import Base
internal import Host

extension Failure {
  /// What a run reports that does not get its lock.
  init(_ error: RunLockError) {
    let hint = "run as root, or name another directory with --state-dir"
    switch error {
    case .cannotCreateDirectory:
      self.init(
        .configurationRejected, "cannot create the state directory", details: [error.explanation], hint: hint)
    case .cannotOpen:
      self.init(.configurationRejected, "cannot open the lock", details: [error.explanation], hint: hint)
    case .held(_, let process):
      let kill = process.map { " (kill \($0))" } ?? ""
      self.init(
        .anotherRun, "another consul-bootstrap is at work on this machine", details: [error.explanation],
        hint: "let it finish, or stop it\(kill); this run has changed nothing")
    }
  }
}

extension RunLock {
  /// - Throws: `Failure` with status 17 if another process holds the lock, 14 if it cannot be opened.
  static func acquire(stateDirectory: String, name: String = "lock") throws(Failure) -> RunLock {
    do throws(RunLockError) {
      return try RunLock(stateDirectory: stateDirectory, name: name)
    } catch {
      throw Failure(error)
    }
  }
}
