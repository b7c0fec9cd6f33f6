internal import Base
internal import Consul

extension MachineObservation {
  /// Why no run continues beside the other files of the configuration directory, whatever it plans.
  package var otherFileFailures: [Failure] {
    otherConfigurationFiles.compactMap(\.failure) + bootstrapFailures
  }

  /// Consul merges the files of the directory: a `bootstrap_expect` in an image would form a second cluster.
  private var bootstrapFailures: [Failure] {
    otherConfigurationFiles.bootstrapping.map { path in
      Failure(
        .configurationRejected, "\(path) sets bootstrap or bootstrap_expect",
        details: ["a server with a fixed value can form a second cluster"],
        hint: "remove the key from \(path); consul-bootstrap writes bootstrap_expect at a boot where it is safe")
    }
  }
}

extension [OtherConfigurationFile] {
  /// Paths of those by which an agent would form a cluster. Zero and false mean that none is set, also where they
  /// replace the value of a file before.
  package var bootstrapping: [String] {
    let merged = MergedConfiguration(nil, at: "", beside: self)
    let files = ["bootstrap_expect", "bootstrap"].flatMap { key in
      merged[key].map(Self.isEffective) ?? false
        ? merged.settings(of: [key]).filter { Self.isEffective($0.value) }.map(\.path) : []
    }
    return Set(files).sorted()
  }

  /// What is neither a number nor a boolean counts: Consul may know what it means.
  private static func isEffective(_ value: JSONValue) -> Bool {
    if let bool = value.bool { return bool }
    if let number = value.wholeNumber { return number > 0 }
    return value != "false"
  }
}
