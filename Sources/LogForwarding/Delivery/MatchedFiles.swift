/// The files that match a pattern, each with the state of its stream. A name that is missing for the timeout does not
/// come back, for example one that contains a date: its stream ends.
struct MatchedFiles {
  private enum State {
    case present
    case missing(since: Duration)
    /// Missing for the timeout: the stream sends the rest and ends.
    case ending
    /// The stream has ended, and its checkpoint is being removed.
    case closing
  }

  private let timeout: Duration
  private var states: [String: State] = [:]

  /// - Parameter timeout: longer than a rotation takes.
  init(timeout: Duration) { self.timeout = timeout }

  var isEmpty: Bool { states.isEmpty }

  /// - Parameters:
  ///   - paths: of the files that match now.
  ///   - uptime: monotonic time.
  /// - Returns: the paths that need a stream from now on, sorted.
  mutating func update(_ paths: [String], at uptime: Duration) -> [String] {
    let present = Set(paths)
    let new = present.subtracting(states.keys)
    for path in new { states[path] = .present }
    for (path, state) in states {
      switch (state, present.contains(path)) {
      case (.closing, _): break
      case (_, true): states[path] = .present
      case (.present, false): states[path] = .missing(since: uptime)
      case (.missing(let since), false): if uptime - since >= timeout { states[path] = .ending }
      case (.ending, false): break
      }
    }
    return new.sorted()
  }

  func isEnding(_ path: String) -> Bool {
    if case .ending = states[path] { true } else { false }
  }

  /// - Returns: false if the file has reappeared since its stream began to end: then the stream continues.
  mutating func close(_ path: String) -> Bool {
    guard isEnding(path) else { return false }
    states[path] = .closing
    return true
  }

  /// From now on the path is new if it reappears.
  mutating func remove(_ path: String) { states[path] = nil }
}
