extension Duration {
  /// As Go's `time.ParseDuration` reads it: `1s`, `1m30s` as `90s`, `500ms`.
  package var goText: String {
    let milliseconds = wholeMilliseconds
    return milliseconds % 1000 == 0 ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
  }
}
