package import Base

/// Finds the time in a line: at its start, in one of the usual forms. Nil means that the caller uses another time.
///
/// - Consul: `2026-01-02T03:04:05.678Z` (1.4 and newer, with an offset too), `2026/01/02 03:04:05` (older; UTC).
/// - ISO 8601 with `T` or a blank, with a fraction, `Z`, an offset or none (UTC).
/// - syslog: `Jan  2 03:04:05` (RFC 3164; of the year that puts it nearest to now; UTC), also after `<13>`, and
///   `<13>1 2026-01-02T03:04:05Z` (RFC 5424).
/// - Seconds or milliseconds since 1970, as the first word, or in a member of a JSON object.
package struct LogTimestamp: Sendable {
  /// Members of a line that is a JSON object; the first that exists counts.
  private let keys: [[UInt8]]
  private static let usualKeys = ["timestamp", "@timestamp", "time", "ts"]

  /// - Parameter key: of JSON lines, if it is not one of the usual keys.
  package init(key: String? = nil) { keys = ((key.map { [$0] } ?? []) + Self.usualKeys).map { Array($0.utf8) } }

  package func find(in line: ArraySlice<UInt8>, now: Timestamp) -> Timestamp? {
    line.withUnsafeBufferPointer { line in
      var scanner = Scanner(line)
      while scanner.take(32) || scanner.take(9) || scanner.take(91) {}
      if scanner.peek == UInt8(ascii: "{") { return json(scanner, now) }
      if scanner.take(60) {
        _ = scanner.number(3) ?? scanner.number(2) ?? scanner.number(1)
        guard scanner.take(62) else { return nil }
        if scanner.peek == 49 {
          var version1 = scanner
          if version1.take(49), version1.take(32) { scanner = version1 }
        }
      }
      return Self.plain(scanner, now)
    }
  }

  private static func plain(_ scanner: Scanner, _ now: Timestamp) -> Timestamp? {
    guard let first = scanner.peek else { return nil }
    if (48...57).contains(first) { return calendar(scanner) ?? epoch(scanner) }
    return syslog(scanner, now)
  }

  /// Members of the outermost object only.
  private func json(_ start: Scanner, _ now: Timestamp) -> Timestamp? {
    var scanner = start
    var best: (rank: Int, time: Timestamp)?
    var depth = 0
    while let byte = scanner.next() {
      switch byte {
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
      case UInt8(ascii: "\""):
        let name = scanner.string()
        guard depth == 1 else { continue }
        while scanner.take(32) || scanner.take(9) {}
        guard scanner.take(58), let rank = keys.firstIndex(where: { name.elementsEqual($0) }), rank < best?.rank ?? .max
        else { continue }
        while scanner.take(32) || scanner.take(9) {}
        var value = scanner
        _ = value.take(34)
        guard let time = Self.plain(value, now) else { continue }
        best = (rank, time)
        if rank == 0 { return time }
      default: break
      }
    }
    return best?.time
  }

  /// `2026-01-02T03:04:05.678+01:00`, `2026/01/02 03:04:05`.
  private static func calendar(_ start: Scanner) -> Timestamp? {
    var scanner = start
    guard let year = scanner.number(4), let separator = scanner.peek, separator == 45 || separator == 47,
      scanner.take(separator),
      let month = scanner.number(2), scanner.take(separator), let day = scanner.number(2),
      scanner.take(84) || scanner.take(32),
      let hour = scanner.number(2), scanner.take(58), let minute = scanner.number(2), scanner.take(58),
      let second = scanner.number(2)
    else { return nil }
    let millisecond = scanner.fraction()
    guard let time = Timestamp(year: year, month: month, day: day, hour: hour, minute: minute, second: second) else {
      return nil
    }
    return Timestamp(milliseconds: time.milliseconds + millisecond - scanner.offset() * 60_000)
  }

  private static let months = Timestamp.months.map { Array($0.utf8) }

  private static func syslog(_ start: Scanner, _ now: Timestamp) -> Timestamp? {
    var scanner = start
    guard let month = months.firstIndex(where: { scanner.starts(with: $0) }) else { return nil }
    scanner.skip(3)
    guard scanner.take(32) else { return nil }
    _ = scanner.take(32)
    guard let day = scanner.number(2) ?? scanner.number(1), scanner.take(32), let hour = scanner.number(2),
      scanner.take(58),
      let minute = scanner.number(2), scanner.take(58), let second = scanner.number(2)
    else { return nil }
    let year = now.year
    return [year - 1, year, year + 1].compactMap {
      Timestamp(year: $0, month: Int64(month + 1), day: day, hour: hour, minute: minute, second: second)
    }.min { abs($0.milliseconds - now.milliseconds) < abs($1.milliseconds - now.milliseconds) }
  }

  private static func epoch(_ start: Scanner) -> Timestamp? {
    var scanner = start
    let (number, count) = scanner.digits(13)
    guard count == 10 || count == 13 else { return nil }
    let fraction = count == 10 ? scanner.fraction() : 0
    guard scanner.peek.map({ !(48...57).contains($0) && $0 != 45 }) ?? true else { return nil }
    return plausible(count == 10 ? number * 1000 + fraction : number)
  }

  /// Milliseconds from 1973 to 2286.
  private static func plausible(_ number: Int64) -> Timestamp? {
    (100_000_000_000..<10_000_000_000_000).contains(number) ? Timestamp(milliseconds: number) : nil
  }
}

/// Reads fixed forms from the front of a buffer.
private struct Scanner {
  private let bytes: UnsafeBufferPointer<UInt8>
  private var index = 0

  init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  var peek: UInt8? { index < bytes.count ? bytes[index] : nil }

  mutating func next() -> UInt8? {
    guard index < bytes.count else { return nil }
    defer { index += 1 }
    return bytes[index]
  }

  mutating func skip(_ count: Int) { index = min(bytes.count, index + count) }

  mutating func take(_ byte: UInt8) -> Bool {
    guard index < bytes.count, bytes[index] == byte else { return false }
    index += 1
    return true
  }

  func starts(with word: [UInt8]) -> Bool {
    index + word.count <= bytes.count && bytes[index..<index + word.count].elementsEqual(word)
  }

  /// Exactly `count` digits.
  mutating func number(_ count: Int) -> Int64? {
    guard index + count <= bytes.count else { return nil }
    var value: Int64 = 0
    for place in index..<index + count {
      let digit = bytes[place] &- 48
      guard digit < 10 else { return nil }
      value = value * 10 + Int64(digit)
    }
    index += count
    return value
  }

  /// At most `most` digits, which must be below 19.
  mutating func digits(_ most: Int) -> (value: Int64, count: Int) {
    var value: Int64 = 0, count = 0
    while count < most, index < bytes.count, bytes[index] &- 48 < 10 {
      value = value * 10 + Int64(bytes[index] &- 48)
      index += 1
      count += 1
    }
    return (value, count)
  }

  /// The rest of a JSON string after its opening quote, escapes included.
  mutating func string() -> Slice<UnsafeBufferPointer<UInt8>> {
    let start = index
    while index < bytes.count, bytes[index] != 34 { index += bytes[index] == 92 ? 2 : 1 }
    let end = min(index, bytes.count)
    index = min(index + 1, bytes.count)
    return bytes[start..<end]
  }

  /// Milliseconds after `.` or `,`; finer digits are ignored.
  mutating func fraction() -> Int64 {
    guard let point = peek, point == 46 || point == 44 else { return 0 }
    var copy = self
    copy.index += 1
    var (value, count) = copy.digits(3)
    guard count > 0 else { return 0 }
    while count < 3 {
      value *= 10
      count += 1
    }
    while copy.digits(18).count > 0 {}
    self = copy
    return value
  }

  /// Minutes east of UTC.
  mutating func offset() -> Int64 {
    guard let sign = peek, sign == 43 || sign == 45 else { return 0 }
    var copy = self
    copy.index += 1
    guard let hours = copy.number(2) else { return 0 }
    _ = copy.take(58)
    guard let minutes = copy.number(2), hours < 24, minutes < 60 else { return 0 }
    self = copy
    return (sign == 45 ? -1 : 1) * (hours * 60 + minutes)
  }
}
