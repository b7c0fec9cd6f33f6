/// Where a secret is stored.
package enum SecretReference: Sendable, Equatable, CustomStringConvertible {
  /// A parameter of Systems Manager's Parameter Store; decrypted when it is read.
  case ssm(name: String)
  /// A secret of Secrets Manager; with a key, that member of its JSON object.
  case secretsManager(id: String, key: String?)
  case file(path: String)

  package var description: String {
    switch self {
    case .ssm(let name): "ssm:\(name)"
    case .secretsManager(let id, let key): "secretsmanager:\(id)\(key.map { "#\($0)" } ?? "")"
    case .file(let path): "file:\(path)"
    }
  }

  /// Nil for text in none of the three forms, which is most likely a secret itself.
  package init?(_ text: String) {
    guard let colon = text.firstIndex(of: ":"), text.index(after: colon) < text.endIndex else { return nil }
    let rest = String(text[text.index(after: colon)...])
    switch text[..<colon] {
    case "ssm": self = .ssm(name: rest)
    case "secretsmanager":
      let halves = rest.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
      guard !halves[0].isEmpty, halves.count == 1 || !halves[1].isEmpty else { return nil }
      self = .secretsManager(id: String(halves[0]), key: halves.count == 2 ? String(halves[1]) : nil)
    case "file":
      guard rest.hasPrefix("/") else { return nil }
      self = .file(path: rest)
    default: return nil
    }
  }
}
