internal import Base
internal import Glibc

/// Where text goes: a terminal, or a file, a pipe, the journal.
package struct Terminal: TextOutput {
  package let isTerminal: Bool
  /// On a terminal that has colors, unless `NO_COLOR` (no-color.org) is set to any value.
  package let hasColors: Bool
  private let descriptor: Int32

  package static func output(_ environment: [String: String]) -> Terminal { Terminal(1, environment) }
  package static func error(_ environment: [String: String]) -> Terminal { Terminal(2, environment) }

  private init(_ descriptor: Int32, _ environment: [String: String]) {
    self.descriptor = descriptor
    isTerminal = isatty(descriptor) == 1
    hasColors =
      isTerminal && (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb" && environment["CI"] == nil
  }

  /// In columns; 80 if the terminal does not report its size.
  package var width: Int {
    var size = winsize()
    return ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
  }

  package func write(_ text: String) { Machine.write(text, toStandardError: descriptor == 2) }
}
