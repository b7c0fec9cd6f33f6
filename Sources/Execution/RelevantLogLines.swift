/// The part of an agent's log that belongs into an error: the last ten lines, and before them the latest five errors.
///
/// An agent that is restarted covers the reason of its end with the lines of its next start.
package func relevantLogLines(of lines: [String]) -> [String] {
  let errors = lines.dropLast(10).filter { $0.contains("[ERR") || $0.contains("rror") }
  return errors.suffix(5) + lines.suffix(10)
}
