package import Base
internal import CSpawn
internal import Glibc

/// What the process itself needs: environment, time, standard output, exit.
package enum Machine {
  package static var environment: [String: String] {
    var variables: [String: String] = [:]
    var next = environ
    while let entry = next.pointee {
      let text = String(cString: entry)
      if let equals = text.firstIndex(of: "=") {
        variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
      }
      next += 1
    }
    return variables
  }

  /// The release: the tag or the commit that it was built from.
  package static var programVersion: String { String(cString: cb_version()) }

  package static func now() -> Timestamp {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
  }

  /// Since the machine's start; no correction of the clock moves it.
  package static func uptime() -> Duration {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return .seconds(Int64(time.tv_sec)) + .nanoseconds(Int64(time.tv_nsec))
  }

  package static func write(_ text: String, toStandardError: Bool = false) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(toStandardError ? 2 : 1, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }

  /// Before the first secret is read.
  package static func forbidCoreFiles() { cb_forbid_core_files() }

  /// Before the first thread.
  package static func keepMemorySmall() { cb_keep_memory_small() }

  package static func waitForever() -> Never {
    while true { pause() }
  }

  package static func exit(_ status: Int32) -> Never { Glibc.exit(status) }

  /// Without running anything that waits for other threads.
  package static func exitAtOnce(_ status: Int32) -> Never { Glibc._exit(status) }
}
