package import Base

/// Finds the time in a line: at its start, in one of the forms that logs have. Nil means that the time of reading is to be used.
///
/// - Consul: `2026-01-02T03:04:05.678Z` (1.4 and newer, with an offset too), `2026/01/02 03:04:05` (older; UTC).
/// - ISO 8601 with `T` or a blank, with a fraction, `Z`, an offset or none (UTC).
/// - syslog: `Jan  2 03:04:05` (RFC 3164; the year is the one that puts it nearest to now; UTC), also behind `<13>`.
/// - Seconds or milliseconds since 1970, as the first word or in JSON's `"timestamp"`, `"@timestamp"`, `"time"` or `"ts"`.
package enum LogTimestamp {
  private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
  /// The longest form, an ISO 8601 with nanoseconds and offset, has 35 characters.
  private static let reach = 40
  private static let jsonKeys = ["timestamp", "@timestamp", "time", "ts"]

  package static func find(in line: String, now: Timestamp) -> Timestamp? {
    var scanner = Scanner(line.utf8.drop { $0 == 32 || $0 == 9 || $0 == 91 }.prefix(reach))
    if scanner.rest.first == UInt8(ascii: "{") { return json(line, now: now) }
    if scanner.take(60) {
      while let byte = scanner.rest.first, byte != 62 { scanner.rest = scanner.rest.dropFirst(); _ = byte }; _ = scanner.take(62)
    }
    return calendar(scanner) ?? syslog(scanner, now: now) ?? epoch(scanner)
  }

  private static func json(_ line: String, now: Timestamp) -> Timestamp? {
    guard line.utf8.count <= 65_536, let value = try? JSONValue(parsing: line) else { return nil }
    for key in jsonKeys {
      switch value[key] {
      case .string(let text)?: return calendar(Scanner(text.utf8.prefix(reach))) ?? epoch(Scanner(text.utf8.prefix(reach)))
      case .integer(let number)?: return plausible(number)
      case .number(let number)?: return abs(number) < 1e15 ? plausible(Int64(number * 1000)) : nil
      default: continue
      }
    }
    return nil
  }

  /// `2026-01-02T03:04:05.678+01:00`, `2026/01/02 03:04:05`.
  private static func calendar(_ start: Scanner) -> Timestamp? {
    var scanner = start
    guard let year = scanner.number(4), let separator = scanner.rest.first, separator == 45 || separator == 47, scanner.take(separator),
      let month = scanner.number(2), scanner.take(separator), let day = scanner.number(2), scanner.take(84) || scanner.take(32),
      let hour = scanner.number(2), scanner.take(58), let minute = scanner.number(2), scanner.take(58), let second = scanner.number(2)
    else { return nil }
    let millisecond = scanner.fraction()
    guard let time = Timestamp(year: year, month: month, day: day, hour: hour, minute: minute, second: second) else { return nil }
    return Timestamp(milliseconds: time.milliseconds + millisecond - scanner.offset() * 60_000)
  }

  private static func syslog(_ start: Scanner, now: Timestamp) -> Timestamp? {
    var scanner = start
    guard let name = scanner.word(3), let month = months.firstIndex(of: name), scanner.take(32) else { return nil }
    _ = scanner.take(32)
    guard let day = scanner.number(2) ?? scanner.number(1), scanner.take(32), let hour = scanner.number(2), scanner.take(58),
      let minute = scanner.number(2), scanner.take(58), let second = scanner.number(2)
    else { return nil }
    let year = Int64(now.iso8601.prefix(4)) ?? 1970
    return [year - 1, year, year + 1].compactMap {
      Timestamp(year: $0, month: Int64(month + 1), day: day, hour: hour, minute: minute, second: second)
    }.min { abs($0.milliseconds - now.milliseconds) < abs($1.milliseconds - now.milliseconds) }
  }

  private static func epoch(_ start: Scanner) -> Timestamp? {
    var scanner = start
    let digits = scanner.digits(13)
    guard digits.count == 10 || digits.count == 13, let number = Int64(digits) else { return nil }
    let fraction = digits.count == 10 ? scanner.fraction() : 0
    guard scanner.rest.first.map({ !(48...57).contains($0) && $0 != 45 }) ?? true else { return nil }
    return plausible(digits.count == 10 ? number * 1000 + fraction : number)
  }

  /// Seconds up to the year 2286, milliseconds from 1973 on.
  private static func plausible(_ number: Int64) -> Timestamp? {
    switch number {
    case 100_000_000..<10_000_000_000: Timestamp(milliseconds: number * 1000)
    case 100_000_000_000..<10_000_000_000_000: Timestamp(milliseconds: number)
    default: nil
    }
  }
}

/// Reads fixed forms from the front of some bytes.
private struct Scanner {
  var rest: Substring.UTF8View.SubSequence

  init(_ bytes: some Sequence<UInt8>) {
    rest = Substring(decoding: Array(bytes), as: UTF8.self).utf8[...]
  }

  mutating func take(_ byte: UInt8) -> Bool {
    guard rest.first == byte else { return false }
    rest = rest.dropFirst()
    return true
  }

  mutating func digits(_ most: Int) -> String {
    let found = rest.prefix(most).prefix { (48...57).contains($0) }
    rest = rest.dropFirst(found.count)
    return String(decoding: found, as: UTF8.self)
  }

  /// Exactly so many digits.
  mutating func number(_ count: Int) -> Int64? {
    let found = rest.prefix(count)
    guard found.count == count, found.allSatisfy({ (48...57).contains($0) }) else { return nil }
    rest = rest.dropFirst(count)
    return found.reduce(0) { $0 * 10 + Int64($1 - 48) }
  }

  mutating func word(_ count: Int) -> String? {
    let found = rest.prefix(count)
    guard found.count == count else { return nil }
    rest = rest.dropFirst(count)
    return String(decoding: found, as: UTF8.self)
  }

  /// Milliseconds behind `.` or `,`; what is finer is left out.
  mutating func fraction() -> Int64 {
    guard rest.first == 46 || rest.first == 44 else { return 0 }
    var copy = self
    copy.rest = copy.rest.dropFirst()
    let found = copy.digits(9)
    guard !found.isEmpty else { return 0 }
    self = copy
    return Int64((found + "00").prefix(3)) ?? 0
  }

  /// Minutes east of UTC.
  mutating func offset() -> Int64 {
    guard let sign = rest.first, sign == 43 || sign == 45 else { return 0 }
    var copy = self
    copy.rest = copy.rest.dropFirst()
    guard let hours = copy.number(2) else { return 0 }
    _ = copy.take(58)
    guard let minutes = copy.number(2), hours < 24, minutes < 60 else { return 0 }
    self = copy
    return (sign == 45 ? -1 : 1) * (hours * 60 + minutes)
  }
}
