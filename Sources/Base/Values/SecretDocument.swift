/// A JSON document that may hold secrets, such as Consul's configuration: whatever prints it prints it redacted.
package struct SecretDocument: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  /// For the write to disk and for comparisons only.
  package let value: JSONValue

  package init(_ value: JSONValue) { self.value = value }

  /// The bytes of the file: equal values give equal bytes.
  package var text: Secret { Secret(value.prettyText) }
  package var redacted: JSONValue { Redaction.redacted(value) }

  package subscript(key: String) -> JSONValue? { value[key] }

  package var description: String { redacted.compactText }
  package var debugDescription: String { description }
  package var customMirror: Mirror { Mirror(self, children: [:]) }
}
