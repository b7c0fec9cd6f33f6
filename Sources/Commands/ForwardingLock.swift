internal import Base
internal import Host
internal import Synchronization

/// The sidecar's lock: whichever process holds it forwards the logs.
final class ForwardingLock: Sendable {
  private let lock: Mutex<RunLock?>

  /// Nil if a sidecar holds it. Nil, too, if it cannot be opened: that is logged, and the run goes on without forwarding.
  init?(stateDirectory: String, log: Logger) {
    do throws(RunLockError) {
      lock = Mutex(try RunLock(stateDirectory: stateDirectory, name: "sidecar.lock"))
    } catch .held {
      return nil
    } catch {
      log.error(
        "cannot open the sidecar's lock; this run does not forward logs", ["reason": .string(error.explanation)])
      return nil
    }
  }

  func release() { lock.withLock { $0 = nil } }
}
