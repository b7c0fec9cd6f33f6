package import Base

/// The sidecar's report on whether this server's data is that of the cluster which it is a member of.
package struct ClusterIdentityReport: Sendable, Equatable {
  /// Why it is not; nil if it is.
  package let divergence: String?
  package let time: Timestamp

  package init(divergence: String?, time: Timestamp) {
    self.divergence = divergence
    self.time = time
  }

  package var json: JSONValue {
    ["time": .string(time.iso8601), "divergence": divergence.map(JSONValue.string) ?? .null]
  }

  package static let hint = "check the sidecar's log for what it did about it: journalctl -u \(SidecarUnit.name)"

  /// What needs attention.
  /// - Parameter path: of the report.
  package static func problems(at path: String, _ files: any FileReader) -> [Problem] {
    lines(at: path, files).map { Problem($0, hint: hint) }
  }

  private static func lines(at path: String, _ files: any FileReader) -> [String] {
    do {
      guard let bytes = try files.readIfPresent(path) else { return [] }
      let json = try JSONValue(parsing: bytes)
      guard json["time"]?.string != nil, let divergence = json["divergence"] else {
        return ["cannot read the sidecar's report on the cluster's identity: \(path) is no such report"]
      }
      return divergence.string.map { ["this server has diverged from its cluster: \($0)"] } ?? []
    } catch {
      return ["cannot read the sidecar's report on the cluster's identity: \(error.explained)"]
    }
  }
}
