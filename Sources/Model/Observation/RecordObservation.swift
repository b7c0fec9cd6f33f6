internal import Base

/// An entry with its number, which counts from 1 without gaps.
package struct RecordEntry: Sendable, Equatable {
  package let number: Int
  package let record: ClusterRecord

  package init(number: Int, record: ClusterRecord) {
    self.number = number
    self.record = record
  }

  package static let maximumNumber = 999_999
  private static let digits = 6

  /// The last part of a parameter's name: six digits.
  package static func name(_ number: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  package var name: String { Self.name(number) }

  /// Nil for a name that is no entry's.
  package static func number(of name: some StringProtocol) -> Int? {
    guard name.utf8.count == digits, name.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(name),
      number > 0
    else { return nil }
    return number
  }
}

/// The record of the cluster as a boot has observed it.
package struct RecordObservation: Sendable, Equatable {
  package enum Newest: Sendable, Equatable {
    /// A first boot claims the first entry without reading: a record that exists refuses that.
    case notRead
    /// With the failure that a boot ends with if it lasts.
    case unavailable(Failure)
    case none
    case entry(RecordEntry)
  }

  /// What EC2 says about an instance that the newest entry names.
  package enum Standing: Sendable, Equatable {
    case state(String)
    /// EC2 does not know the instance, although it knows this one, and the entry is older than EC2's answers may be.
    case unknownToEC2

    /// Whether its data can never come back.
    package var isGone: Bool { self == .unknownToEC2 || self == .state("terminated") }
  }

  /// Path of the parameters, without a slash at its end.
  package let path: String
  package var newest = Newest.notRead
  /// By instance ID; those that EC2 was not asked about are missing.
  package var standings: [String: Standing] = [:]
  /// Whether this plan may create an entry; the sidecar's never do.
  package var mayClaim = true
  /// UUID of the cluster that this boot may form.
  package let newCluster: String

  package init(path: String, newCluster: String, mayClaim: Bool = true) {
    self.path = path
    self.newCluster = newCluster
    self.mayClaim = mayClaim
  }

  package func parameter(_ number: Int) -> String { "\(path)/\(RecordEntry.name(number))" }
}
