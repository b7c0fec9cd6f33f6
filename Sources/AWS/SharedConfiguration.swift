package import Base

/// The AWS tools' shared `config` and `credentials` files (AWS SDKs and Tools Reference Guide): one profile of them.
package struct SharedConfiguration: Sendable {
  /// `AWS_PROFILE`, or `default`.
  package let profileName: String
  private let wasNamed: Bool
  private let paths: (config: String?, credentials: String?)
  private let files: any FileReader

  package init(environment: [String: String], files: any FileReader) {
    let named = environment["AWS_PROFILE"].flatMap { $0.isEmpty ? nil : $0 }
    profileName = named ?? "default"
    wasNamed = named != nil
    let home = environment["HOME"].map { $0 + "/.aws" }
    paths = (
      environment["AWS_CONFIG_FILE"] ?? home.map { $0 + "/config" },
      environment["AWS_SHARED_CREDENTIALS_FILE"] ?? home.map { $0 + "/credentials" }
    )
    self.files = files
  }

  /// The profile's settings, those of the credentials file over those of the config file; nil if neither file has the
  /// default profile.
  /// - Throws: `CredentialError`.
  package func profile() throws -> [String: String]? {
    let config = try sections(paths.config)
    let credentials = try sections(paths.credentials)
    // In the config file a profile's section is `[profile NAME]`, but `[default]`.
    let fromConfig = config["profile \(profileName)"] ?? (profileName == "default" ? config["default"] : nil)
    let fromCredentials = credentials[profileName]
    if fromConfig == nil, fromCredentials == nil {
      guard wasNamed else { return nil }
      throw CredentialError.noProfile(
        name: profileName, paths: [paths.config, paths.credentials].compactMap { $0 })
    }
    return (fromConfig ?? [:]).merging(fromCredentials ?? [:]) { _, last in last }
  }

  private func sections(_ path: String?) throws -> [String: [String: String]] {
    guard let path else { return [:] }
    do {
      // A file that does not exist is an empty one.
      return Self.parse(String(decoding: try files.readIfPresent(path) ?? [], as: UTF8.self))
    } catch {
      if error.isPermissionDenied, !wasNamed { return [:] }
      throw CredentialError.unreadableConfiguration(error)
    }
  }

  /// `[section]`, `key = value`, comments by `#` or `;` at the start of a line or after a blank. Indented lines belong
  /// to nested settings (`s3 =`), which nothing here uses. A line without `=` is skipped, as by the AWS tools.
  static func parse(_ text: String) -> [String: [String: String]] {
    var sections: [String: [String: String]] = [:]
    var section: String?
    for line in text.split(whereSeparator: \.isNewline) {
      guard let first = line.first, first != "#", first != ";", !first.isWhitespace else { continue }
      if first == "[" {
        guard let end = line.firstIndex(of: "]") else { continue }
        let name = line[line.index(after: line.startIndex)..<end].split(whereSeparator: \.isWhitespace).joined(
          separator: " ")
        section = name
        sections[name] = sections[name] ?? [:]
      } else if let section, let equals = line.firstIndex(of: "=") {
        let key = line[..<equals].trimmingBlanks().lowercased()
        var value = line[line.index(after: equals)...]
        for mark in [" #", " ;", "\t#", "\t;"] {
          if let comment = value.firstRange(of: mark) { value = value[..<comment.lowerBound] }
        }
        sections[section]?[key] = value.trimmingBlanks()
      }
    }
    return sections
  }
}

extension Substring {
  fileprivate func trimmingBlanks() -> String {
    var text = self
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }
}
