/// A release of Consul, as `consul version` names it.
package struct ConsulVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let major: Int
  package let minor: Int
  package let patch: Int

  package init(_ major: Int, _ minor: Int, _ patch: Int = 0) {
    self.major = major
    self.minor = minor
    self.patch = patch
  }

  /// Reads `Consul v1.8.7+dfsg1` or `Consul v1.18.0-rc1+ent` in the output of `consul version`, which may begin with
  /// warnings; nil if there is no such line, or a number in it is missing or overflows. A missing patch level is 0.
  package init?(output: String) {
    guard let line = output.split(whereSeparator: \.isNewline).first(where: { $0.hasPrefix("Consul v") }) else {
      return nil
    }
    self.init(beginningOf: line.dropFirst("Consul v".count))
  }

  /// Reads `1.8.7:0bc1ef4c`, the tag `build` of a server in gossip; nil for what does not begin with a version.
  package init?(build: String) { self.init(beginningOf: build[...]) }

  private init?(beginningOf text: Substring) {
    let numbers = text.prefix { $0.isNumber || $0 == "." }.split(separator: ".").map { Int($0) }
    guard numbers.count >= 2, let major = numbers[0], let minor = numbers[1],
      let patch = numbers.count > 2 ? numbers[2] : 0
    else { return nil }
    self.init(major, minor, patch)
  }

  package static func < (left: Self, right: Self) -> Bool {
    (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
  }

  package var description: String { "\(major).\(minor).\(patch)" }
}
