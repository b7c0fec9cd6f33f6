package import Base

/// The machine's log file.
package enum SyslogFile {
  /// Debian's, then Red Hat's.
  private static let paths = ["/var/log/syslog", "/var/log/messages"]

  /// Nil if only the journal has the log, or the file cannot be examined: then the journal is forwarded, which has the
  /// same lines.
  package static func path(_ files: any FileReader) -> String? {
    paths.first { path in
      do { return try files.status(path)?.kind == .file } catch { return false }
    }
  }
}
