package import Base

extension CurrentConfiguration {
  /// The same configuration for a server that joins: without `bootstrap_expect`, which must never stand beside an empty
  /// data directory of a server whose cluster exists, and with these servers in `retry_join`.
  ///
  /// Nil if the present one is not known, or if another file may set `bootstrap_expect`.
  /// - Parameter servers: none keeps the present list.
  package func joining(_ servers: [IPv4Address]) -> SecretDocument? {
    guard mayBootstrap.isEmpty, var keys = document?.value.object else { return nil }
    keys["bootstrap_expect"] = nil
    if !servers.isEmpty { keys["retry_join"] = .strings(servers.sorted().map(\.description)) }
    return SecretDocument(.object(keys))
  }

  /// The data directory that the agent uses.
  package func dataDirectory(_ settings: Settings) -> String {
    document?["data_dir"]?.string ?? settings.dataDirectory
  }
}
