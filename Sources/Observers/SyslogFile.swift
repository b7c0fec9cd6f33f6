package import Base

/// The machine's log as a file.
package enum SyslogFile {
  /// Debian's, then Red Hat's.
  private static let paths = ["/var/log/syslog", "/var/log/messages"]

  /// Nil where only the journal has the log. A path that this process may not look at counts as none.
  package static func path(_ files: any FileReader) -> String? {
    paths.first { (try? files.status($0))??.kind == .file }
  }
}
