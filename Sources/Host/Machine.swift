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

  /// The wall clock, for time stamps only.
  package static func now() -> Timestamp {
    var time = timespec()
    // Cannot fail for this clock (clock_gettime(2)).
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(milliseconds: time.milliseconds)
  }

  /// Since the machine's start; no correction of the clock changes it.
  package static func uptime() -> Duration {
    var time = timespec()
    // Cannot fail for this clock (clock_gettime(2)).
    clock_gettime(CLOCK_MONOTONIC, &time)
    return .seconds(Int64(time.tv_sec)) + .nanoseconds(Int64(time.tv_nsec))
  }

  /// Standard output that cannot be written is reported on standard error, unless its reader went away. Standard error
  /// that cannot be written is lost: there is no other place to report to.
  package static func write(_ text: String, toStandardError: Bool = false) {
    let number = writeAll(Array(text.utf8)[...], to: toStandardError ? 2 : 1)
    guard number != 0, number != EPIPE, !toStandardError else { return }
    write(
      "consul-bootstrap: error: cannot write to standard output: \(errorText(number))\n", toStandardError: true)
  }

  /// Call it before the first secret is read.
  package static func forbidCoreFiles() { cb_forbid_core_files() }

  /// Call it before the first thread starts.
  package static func keepMemorySmall() { cb_keep_memory_small() }

  package static func waitForever() -> Never {
    while true { pause() }
  }

  /// Without running what libraries have registered for the end: OpenSSL frees there what a request that is still under
  /// way in another thread uses. Nothing is lost, as every write goes to the kernel.
  package static func exit(_ status: Int32) -> Never { Glibc._exit(status) }
}
