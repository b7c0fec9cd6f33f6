/// The process that supervises the agent, and the lock that proves it.
package struct Supervision: Sendable, Equatable {
  package let pid: Int32
  package let lockPath: String

  package init(pid: Int32, lockPath: String) { (self.pid, self.lockPath) = (pid, lockPath) }
}
