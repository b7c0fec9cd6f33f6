package import Base
internal import Consul
package import Model

extension Settings {
  /// The same settings with the ports that the files beside ours set. A file that cannot be read sets none: Consul
  /// does not start with it.
  package func besideOtherFiles(_ files: any FileReader) -> Settings {
    besideFiles(
      ConfigurationDirectory(path: configDirectory, reader: CheckedReader(files)).files(except: configurationPath))
  }
}

/// Reads the agent's configuration directory as Consul does.
struct ConfigurationDirectory {
  let path: String
  let reader: CheckedReader

  /// Every file of the directory that Consul reads, in its order; those of which that is not certain included.
  ///
  /// Consul skips directories, and files whose names end in neither `.json` nor `.hcl`; of a symbolic link the name of
  /// its target counts. It does not start if a link leads nowhere.
  func files(except ownPath: String) -> [OtherConfigurationFile] {
    reader.list(path).sorted(by: OtherConfigurationFile.isBefore).map { "\(path)/\($0)" }.filter { $0 != ownPath }
      .compactMap(file)
  }

  private func file(_ path: String) -> OtherConfigurationFile? {
    let isLink = reader.isLink(path)
    guard isLink || ConfigurationSyntax(path: path) != nil else { return nil }
    guard let status = reader.status(path) else {
      return isLink
        ? unreadable(path, "\(path) is a link to a file that cannot be read, and Consul does not start with it")
        : OtherConfigurationFile(path: path, .unreadable(reason: "its status cannot be read"))
    }
    guard status.kind != .directory else { return nil }
    let target = isLink ? reader.resolvedPath(path) ?? path : path
    guard let syntax = ConfigurationSyntax(path: target) else { return nil }
    guard status.kind == .file else { return unreadable(path, "\(path) is not a regular file") }
    switch reader.bytes(path) {
    case .absent: return nil
    case .unreadable(let reason): return OtherConfigurationFile(path: path, target: target, .unreadable(reason: reason))
    case .bytes(let bytes):
      do {
        let document = SecretDocument(try syntax.parse(bytes))
        return OtherConfigurationFile(path: path, target: target, .document(document))
      } catch {
        return OtherConfigurationFile(
          path: path, target: target, .notUnderstood(reason: "\(path), \(error.explanation)"))
      }
    }
  }

  private func unreadable(_ path: String, _ reason: String) -> OtherConfigurationFile {
    reader.reject(path, reason: reason)
    return OtherConfigurationFile(path: path, .unreadable(reason: reason))
  }
}
