package import Base

extension CommandResult {
  /// How the command failed, with the last line of its output, in one line.
  package func failureText(of command: Command) -> String {
    let line = lastLines.last.map { ": \($0)" } ?? ""
    return "`\(command.text)`: \(end.explanation)\(line)"
  }

  /// At most ten lines of the output, oldest first: for the details of an error.
  package var lastLines: [String] {
    output.split(whereSeparator: \.isNewline).suffix(10).map(String.init)
  }

  /// The output of `systemctl show`: `KEY=VALUE` in each line.
  package var unitProperties: [String: String] {
    var properties: [String: String] = [:]
    for line in output.split(whereSeparator: \.isNewline) {
      let halves = line.split(separator: "=", maxSplits: 1).map(String.init)
      if halves.count == 2 { properties[halves[0]] = halves[1] }
    }
    return properties
  }
}
