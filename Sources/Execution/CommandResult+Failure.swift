internal import Base

extension CommandResult {
  /// How the command failed, with the last line of its output, in one line.
  func failureText(of command: Command) -> String {
    let line = lastLines.last.map { ": \($0)" } ?? ""
    return "`\(command.text)`: \(end.explanation)\(line)"
  }

  /// At most ten lines of the output, oldest first: for the details of an error.
  var lastLines: [String] {
    output.split(whereSeparator: \.isNewline).suffix(10).map(String.init)
  }
}
