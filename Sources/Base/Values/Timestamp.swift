/// A point in time: milliseconds since 1970-01-01T00:00:00Z, with the three text forms that AWS and HTTP use.
///
/// Times come from foreign documents: arithmetic saturates at the ends of the range (292 million years), never traps.
package struct Timestamp: Sendable, Equatable, Comparable {
  package let milliseconds: Int64

  package init(milliseconds: Int64) { self.milliseconds = milliseconds }
  package init(seconds: Int64) { self.milliseconds = seconds.saturatingMultiplied(by: 1000) }

  package static func < (left: Self, right: Self) -> Bool { left.milliseconds < right.milliseconds }

  package static func + (left: Self, right: Duration) -> Timestamp {
    Timestamp(milliseconds: left.milliseconds.saturatingAdding(right.wholeMilliseconds))
  }

  package static func - (left: Self, right: Self) -> Duration {
    .milliseconds(left.milliseconds.saturatingSubtracting(right.milliseconds))
  }
}

/// The source of wall-clock time; a value so that tests choose it.
package typealias WallClock = @Sendable () -> Timestamp

/// Time since a fixed moment, independent of corrections of the clock; for every interval and deadline.
package typealias MonotonicTime = @Sendable () -> Duration

extension Duration {
  /// Rounded towards zero; saturates.
  package var wholeMilliseconds: Int64 {
    components.seconds.saturatingMultiplied(by: 1000).saturatingAdding(components.attoseconds / 1_000_000_000_000_000)
  }

  /// For people: `0.4 s`, `12 s`, `2 min 5 s`, `-1.5 s`.
  package var humanReadable: String {
    let milliseconds = wholeMilliseconds.magnitude, sign = wholeMilliseconds < 0 ? "-" : ""
    if milliseconds < 9_950 { return "\(sign)\(milliseconds / 1000).\(milliseconds % 1000 / 100) s" }
    let seconds = milliseconds / 1000
    if seconds < 120 { return "\(sign)\(seconds) s" }
    return "\(sign)\(seconds / 60) min" + (seconds % 60 == 0 ? "" : " \(seconds % 60) s")
  }
}

/// The civil calendar, proleptic Gregorian, UTC (days-from-civil arithmetic over 400-year eras).
extension Timestamp {
  private struct Civil {
    var year: Int64, month: Int64, day: Int64, hour: Int64, minute: Int64, second: Int64, millisecond: Int64
  }

  private var civil: Civil {
    let (days, inDay) = milliseconds.flooredDivision(by: 86_400_000)
    let shifted = days + 719_468
    let (era, dayOfEra) = shifted.flooredDivision(by: 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    return Civil(
      year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month: month,
      day: dayOfYear - (153 * shiftedMonth + 2) / 5 + 1,
      hour: inDay / 3_600_000, minute: inDay / 60_000 % 60, second: inDay / 1000 % 60, millisecond: inDay % 1000)
  }

  private init(_ civil: Civil) {
    let year = civil.month <= 2 ? civil.year - 1 : civil.year
    let (era, yearOfEra) = year.flooredDivision(by: 400)
    let dayOfYear = (153 * (civil.month > 2 ? civil.month - 3 : civil.month + 9) + 2) / 5 + civil.day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    let days = era * 146_097 + dayOfEra - 719_468
    let seconds = days * 86_400 + civil.hour * 3600 + civil.minute * 60 + civil.second
    milliseconds = seconds * 1000 + civil.millisecond
  }

  /// The year, UTC.
  package var year: Int64 { civil.year }

  /// `20130524T000000Z`, as SigV4 wants it.
  package var basic: String {
    let c = civil
    return "\(c.year.padded(4))\(c.month.padded(2))\(c.day.padded(2))T"
      + "\(c.hour.padded(2))\(c.minute.padded(2))\(c.second.padded(2))Z"
  }

  /// `2013-05-24T00:00:00.000Z` (ISO 8601).
  package var iso8601: String {
    let c = civil
    return "\(c.year.padded(4))-\(c.month.padded(2))-\(c.day.padded(2))T"
      + "\(c.hour.padded(2)):\(c.minute.padded(2)):\(c.second.padded(2)).\(c.millisecond.padded(3))Z"
  }

  /// Reads `2013-05-24T00:00:00Z`, with or without a fraction, which is read to the millisecond; nil for anything else.
  package init?(iso8601 text: String) {
    guard text.hasSuffix("Z") else { return nil }
    let halves = text.dropLast().split(separator: "T", omittingEmptySubsequences: false)
    guard halves.count == 2 else { return nil }
    let date = Self.numbers(halves[0], separator: "-")
    let parts = halves[1].split(separator: ".", omittingEmptySubsequences: false)
    let clock = Self.numbers(parts[0], separator: ":")
    guard parts.count <= 2, date.count == 3, clock.count == 3,
      let time = Timestamp(
        year: date[0], month: date[1], day: date[2], hour: clock[0], minute: clock[1], second: clock[2])
    else { return nil }
    guard parts.count == 2 else {
      self = time
      return
    }
    guard let fraction = Self.number(parts[1].prefix(3)), Self.number(parts[1].prefix(18)) != nil else { return nil }
    let scale: Int64 = [1: 100, 2: 10][parts[1].utf8.count] ?? 1
    self.init(milliseconds: time.milliseconds + fraction * scale)
  }

  /// As HTTP and syslog abbreviate them.
  package static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

  /// Reads HTTP's `Tue, 15 Nov 1994 08:12:31 GMT` (RFC 9110 section 5.6.7, the preferred form); nil for anything else.
  package init?(httpDate text: String) {
    let words = text.split(separator: " ")
    guard words.count == 6 else { return nil }
    self.init(words: words.dropFirst())
  }

  /// Reads `15 Nov 1994 08:12:31 GMT`, as EC2 writes the time of a scheduled event; nil for anything else.
  package init?(eventDate text: String) { self.init(words: text.split(separator: " ")[...]) }

  private init?(words: ArraySlice<Substring>) {
    let words = Array(words)
    guard words.count == 5, words[4] == "GMT", let month = Self.months.firstIndex(of: String(words[1])) else {
      return nil
    }
    let clock = Self.numbers(words[3], separator: ":")
    guard clock.count == 3 else { return nil }
    self.init(
      year: Self.number(words[2]), month: Int64(month + 1), day: Self.number(words[0]), hour: clock[0],
      minute: clock[1], second: clock[2])
  }

  private static func numbers(_ text: Substring, separator: Character) -> [Int64?] {
    text.split(separator: separator, omittingEmptySubsequences: false).map(number)
  }

  /// Digits only: no sign, and no number that overflows.
  private static func number(_ text: Substring) -> Int64? {
    text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int64(text) : nil
  }

  /// Nil for what is no date of the years 1 to 9999; UTC.
  package init?(year: Int64?, month: Int64?, day: Int64?, hour: Int64?, minute: Int64?, second: Int64?) {
    guard let year, let month, let day, let hour, let minute, let second, (1...9999).contains(year),
      (1...12).contains(month), (1...31).contains(day), (0...23).contains(hour), (0...59).contains(minute),
      (0...60).contains(second)
    else { return nil }
    self.init(Civil(year: year, month: month, day: day, hour: hour, minute: minute, second: second, millisecond: 0))
  }
}

extension Int64 {
  /// For divisors of at least 2.
  fileprivate func flooredDivision(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }

  fileprivate func padded(_ width: Int) -> String {
    let digits = String(self)
    return String(repeating: "0", count: Swift.max(0, width - digits.count)) + digits
  }
}
