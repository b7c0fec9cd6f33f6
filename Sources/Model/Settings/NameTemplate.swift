internal import Base

/// A name with fields in braces: `consul-{instance_suffix}`.
package struct NameTemplate: Sendable, Equatable {
  package let text: String

  /// The fields, with what each becomes, for help.
  package static let fields = [
    "instance_id": "i-0123456789abcdef0", "instance_suffix": "the instance id without i-", "az": "eu-west-1a",
    "region": "eu-west-1", "private_ip": "10-0-1-17",
  ]

  /// Nil if the text has an unknown field or an unclosed brace.
  package init?(_ text: String) {
    self.text = text
    guard Self.expand(text, { Self.fields[$0] }) != nil else { return nil }
  }

  package func expanded(for identity: Identity) -> String {
    let values = [
      "instance_id": identity.instanceID,
      "instance_suffix": String(identity.instanceID.split(separator: "-", maxSplits: 1).last ?? ""),
      "az": identity.availabilityZone, "region": identity.region,
      "private_ip": identity.privateIP.description.replacing(".", with: "-"),
    ]
    return Self.expand(text) { values[$0] } ?? text
  }

  /// The text with its fields replaced; nil for an unknown field or an unclosed brace.
  package static func expand(_ text: String, _ value: (String) -> String?) -> String? {
    var result = ""
    var rest = Substring(text)
    while let open = rest.firstIndex(of: "{") {
      guard let close = rest[open...].firstIndex(of: "}"),
        let expansion = value(String(rest[rest.index(after: open)..<close]))
      else { return nil }
      result += rest[..<open] + expansion
      rest = rest[rest.index(after: close)...]
    }
    return rest.contains("}") ? nil : result + rest
  }

  /// One label of such a name.
  package static func isLabel(_ name: String) -> Bool { isHostName(name) && !name.contains(".") }

  /// RFC 1123: labels of letters, digits and hyphens, 1 to 63 long, not with a hyphen at either end; 253 in all.
  package static func isHostName(_ name: String) -> Bool {
    name.utf8.count <= 253
      && name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
        (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
          && label.utf8.allSatisfy { byte in
            (97...122).contains(byte) || (65...90).contains(byte) || (48...57).contains(byte) || byte == 45
          }
      }
  }
}
