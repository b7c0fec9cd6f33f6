package import Base

/// Events that CloudWatch Logs rejected, kept as JSON lines for inspection.
package actor DeadLetters {
  package let path: String
  private let files: any FileStore

  /// A file of this size is renamed to `.1` and replaced; its predecessor is overwritten.
  private static let limit: Int64 = 8 << 20

  package init(path: String, files: any FileStore) {
    self.path = path
    self.files = files
  }

  /// Throws `FileError`.
  func append(_ events: [LogBatch.Event], of batch: LogBatch, source: String) throws {
    var file = try files.append(to: path)
    if try file.size() > Self.limit {
      try files.rename(path, to: path + ".1")
      file = try files.append(to: path)
    }
    // One line for each call of PutLogEvents.
    var bytes = Array("{\"source\":\(JSONValue.string(source).compactText),\"events\":".utf8)
    batch.append(events, to: &bytes)
    bytes += "}\n".utf8
    try file.append(bytes[...])
  }
}
