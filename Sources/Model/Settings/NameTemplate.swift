internal import Base

/// A name with fields in braces: `consul-{instance_suffix}`.
package struct NameTemplate: Sendable, Equatable {
  package let text: String

  /// The fields, each with an example of its value, for help.
  package static let fields = [
    "instance_id": "i-0123456789abcdef0", "instance_suffix": "the instance ID without i-", "az": "eu-west-1a",
    "region": "eu-west-1", "private_ip": "10-0-1-17",
  ]

  /// Nil if the text has an unknown field or an unclosed brace.
  package init?(_ text: String) {
    self.text = text
    guard Self.expand(text, { Self.fields[$0] }) != nil else { return nil }
  }

  /// The name of one instance.
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

  /// Whether the name is one label of a host name.
  package static func isLabel(_ name: String) -> Bool { isHostName(name) && !name.contains(".") }

  /// Whether the name is a host name (RFC 1123): at most 253 characters in labels of 1 to 63 letters, digits and
  /// hyphens, none of which begins or ends with a hyphen.
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
