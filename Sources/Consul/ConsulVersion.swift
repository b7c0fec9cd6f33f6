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

  /// Finds the line of `consul version` that says it: `Consul v1.8.7+dfsg1`, `Consul v1.18.0-rc1+ent`; nil if there is none.
  /// Warnings may stand before it.
  package init?(output: String) {
    guard let line = output.split(whereSeparator: \.isNewline).first(where: { $0.hasPrefix("Consul v") }) else {
      return nil
    }
    let numbers = line.dropFirst("Consul v".count).prefix { $0.isNumber || $0 == "." }.split(separator: ".").map {
      Int($0)
    }
    guard numbers.count >= 2, let major = numbers[0], let minor = numbers[1] else { return nil }
    self.init(major, minor, numbers.count > 2 ? numbers[2] ?? 0 : 0)
  }

  package static func < (left: Self, right: Self) -> Bool {
    (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
  }

  package var description: String { "\(major).\(minor).\(patch)" }
}
