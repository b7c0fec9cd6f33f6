extension Duration {
  /// As Go's `time.ParseDuration` reads it: `1s`, `1m30s` as `90s`, `500ms`.
  package var goText: String {
    let milliseconds = wholeMilliseconds
    return milliseconds % 1000 == 0 ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
  }

  /// As Go's `Duration.String` writes it, and so Consul's API: `1m30s`, `1.5s`, `200ms`.
  package var canonicalGoText: String {
    let milliseconds = wholeMilliseconds
    guard milliseconds >= 1000 else { return milliseconds == 0 ? "0s" : "\(milliseconds)ms" }
    let seconds = milliseconds / 1000, fraction = milliseconds % 1000
    var text = "\(seconds % 60)"
    if fraction > 0 {
      let digits = String(fraction + 1000).dropFirst()
      text += "." + digits.prefix(digits.count - digits.reversed().prefix { $0 == "0" }.count)
    }
    if seconds >= 60 { text = "\(seconds / 60 % 60)m" + text }
    return (seconds >= 3600 ? "\(seconds / 3600)h" : "") + text + "s"
  }
}
