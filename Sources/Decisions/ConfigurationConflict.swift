internal import Base
internal import Consul
internal import Model

/// A key of our configuration of which the agent uses something else, because another file sets it, too.
struct ConfigurationConflict: Equatable {
  enum Effect: Equatable {
    /// Another file replaces our value: it comes later, or has a spelling of its own.
    case overrides
    /// Consul appends the lists of all files.
    case extends
  }

  /// With dots, as our file spells it.
  let key: String
  let ownPath: String
  let path: String
  let effect: Effect
  /// Both values as text, secrets redacted.
  let ours: String
  let theirs: String

  /// In the order of our keys.
  static func all(in merged: MergedConfiguration, ownPath: String) -> [ConfigurationConflict] {
    guard let index = merged.sources.firstIndex(where: { $0.path == ownPath }) else { return [] }
    let own = merged.sources[index]
    let others = merged.sources.enumerated().filter { $0.offset != index }.map { offset, source in
      (path: source.path, isLater: offset > index, leaves: source.document.value.leaves.map(Setting.init(path:value:)))
    }
    return own.document.value.leaves.map(Setting.init(path:value:)).sorted { $0.key < $1.key }.flatMap { ours in
      let same = others.compactMap { file in
        file.leaves.first { $0.name == ours.name }.map { (file.path, file.isLater || $0.key != ours.key, $0) }
      }
      if let elements = ours.value.array {
        let added = same.filter { !($0.2.value.array?.allSatisfy(elements.contains) ?? false) }
        return added.map { path, _, theirs in
          ConfigurationConflict(ours, theirs, ownPath, path, theirs.value.array == nil ? .overrides : .extends)
        }
      }
      guard let (path, _, theirs) = same.last(where: { $0.1 }), !theirs.agrees(with: ours) else { return [] }
      return [ConfigurationConflict(ours, theirs, ownPath, path, .overrides)]
    }
  }

  private init(_ ours: Setting, _ theirs: Setting, _ ownPath: String, _ path: String, _ effect: Effect) {
    (key, self.ownPath, self.path, self.effect) = (ours.key, ownPath, path, effect)
    (self.ours, self.theirs) = (ours.redactedText, theirs.redactedText)
  }

  // MARK: What it means

  /// Keys on which the cluster or the data depends. Of `bootstrap_expect` only a zero gets here: a run refuses every
  /// file that sets more.
  private static let decisiveKeys: Set = [
    "data_dir", "server", "datacenter", "node_name", "bind_addr", "ports", "encrypt", "acl", "acl_datacenter",
    "acl_default_policy", "acl_agent_token", bootstrapKey,
  ]
  private static let bootstrapKey = "bootstrap_expect"

  /// - Parameter startsAgent: without an agent that starts, a zero instead of ours does no harm yet.
  private func isDecisive(_ startsAgent: Bool) -> Bool {
    effect == .overrides && Self.decisiveKeys.contains(String(key.prefix { $0 != "." }))
      && (startsAgent || key != Self.bootstrapKey)
  }

  /// Why a run stops, with status 14; nil if it does not.
  static func failure(_ conflicts: [ConfigurationConflict], startsAgent: Bool) -> Failure? {
    let decisive = conflicts.filter { $0.isDecisive(startsAgent) }
    guard let first = decisive.first else { return nil }
    let keys = decisive.map(\.key).joined(separator: ", ")
    let paths = Set(decisive.map(\.path)).sorted()
    return Failure(
      .configurationRejected, "\(paths.joined(separator: ", ")) would override \(keys) of \(first.ownPath)",
      details: decisive.map { "\($0.key) is \($0.ours) in \($0.ownPath) and \($0.theirs) in \($0.path)" },
      hint: decisive.count == 1
        ? "remove \(first.key) from \(first.path)\(first.instead)"
        : "remove the keys from the other \(paths.count == 1 ? "file" : "files"), or set the same values with options")
  }

  /// Nil for one that stops a run.
  func warning(startsAgent: Bool) -> String? {
    guard !isDecisive(startsAgent) else { return nil }
    guard key != Self.bootstrapKey else {
      return "\(path) sets bootstrap_expect to \(theirs), which overrides \(ours): this server cannot form a cluster; "
        + "remove the key from \(path)"
    }
    return effect == .extends
      ? "\(path) sets \(key), too: the agent uses the values of all files"
      : "\(path) overrides \(key): the agent uses \(theirs) instead of \(ours)"
  }

  /// What sets the other file's value, to follow the advice to remove it.
  private var instead: String {
    let plain = theirs.hasPrefix("\"") ? String(theirs.dropFirst().dropLast()) : theirs
    switch key {
    case Self.bootstrapKey: return ": without it this server can form a cluster"
    case "data_dir": return ", or use its value with --data-dir \(plain)"
    case "datacenter": return ", or use its value with --datacenter \(plain)"
    case "node_name": return ", or use its value with --node-name \(plain)"
    case "bind_addr": return ", or use its value with --bind \(plain)"
    case "server": return ", or use --role \(plain == "true" ? "server" : "client")"
    case "encrypt": return ", or store the same key where --gossip-key reads it"
    default:
      return theirs.contains(Redaction.mark)
        ? ", or use its value with --merge FILE" : ", or use its value with --set '\(key)=\(theirs)'"
    }
  }
}

/// A key that is neither an object nor null, with its value.
private struct Setting {
  let key: String
  /// The newest spelling: the same for every spelling of the key.
  let name: String
  let value: JSONValue

  private static let names = Dictionary(
    ConfigurationKey.all.flatMap { key in key.forms.compactMap { form in form.path.map { ($0, key.name) } } },
    uniquingKeysWith: { first, _ in first })

  init(path: [String], value: JSONValue) {
    key = path.joined(separator: ".")
    name = Self.names[key] ?? key
    self.value = value
  }

  /// Whether Consul makes the same of both: it writes datacenters in lower case.
  func agrees(with other: Setting) -> Bool {
    value == other.value || comparableText == other.comparableText
  }

  private var comparableText: String? {
    if let number = value.wholeNumber { return String(number) }
    guard var text = value.string else { return value.bool.map { $0 ? "true" : "false" } }
    if name == "datacenter" || name == "log_level" { text = text.lowercased() }
    while name == "data_dir", text.count > 1, text.hasSuffix("/") { text.removeLast() }
    return text
  }

  var redactedText: String {
    let parts = key.split(separator: ".")
    let document = parts.reversed().reduce(value) { .object([String($1): $0]) }
    return parts.reduce(Redaction.redacted(document)) { $0[String($1)] ?? .null }.compactText
  }
}
